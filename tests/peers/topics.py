"""Reads topics as a stranger does: Confluent's client, the CloudEvents SDK, JSON Schema.

Arguments: brokers, prefix, the AsyncAPI document, AsyncAPI's own schema, topics. Prints how many records each topic
has; fails where one is no CloudEvent, or does not agree with the document, or where the document is none.
"""

import json
import re
import sys

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, TopicPartition
from jsonschema import Draft7Validator, Draft202012Validator

brokers, prefix, document, specification, *topics = sys.argv[1:]
with open(document) as file:
    document = json.load(file)
with open(specification) as file:
    Draft7Validator(json.load(file)).validate(document)


def messages_of(topic):
    """The messages that the document has for a topic, found by the channel's address: by type, and all others."""
    for channel in document["channels"].values():
        address = re.escape(channel["address"].replace("{prefix}", prefix))
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^.]+", address), topic):
            names = [reference["$ref"].rsplit("/", 1)[1] for reference in channel["messages"].values()]
            messages = [document["components"]["messages"][name] for name in names]
            return {message["headers"]["properties"]["ce_type"].get("const"): agrees(message) for message in messages}
    raise SystemExit(f"the document has no channel for {topic}")


def agrees(message):
    """Validators of headers and, where the document says something of it, of the data."""
    return validator(message["headers"]), validator(message["payload"]) if "payload" in message else None


def validator(schema):
    return Draft202012Validator({"allOf": [schema], "components": document["components"]})


def records(topic):
    """Everything on a topic, from its start to where it ends now."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "stranger", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic, timeout=20).topics[topic].partitions
    starts = [TopicPartition(topic, partition, 0) for partition in partitions]
    left = sum(consumer.get_watermark_offsets(start, timeout=20)[1] for start in starts)
    consumer.assign(starts)
    for _ in range(left):
        record = consumer.poll(20)
        if record is None or record.error():
            raise SystemExit(f"{topic}: {record and record.error()}")
        yield record
    consumer.close()


counts = {}
for topic in topics:
    messages = messages_of(topic)
    counts[topic] = 0
    for record in records(topic):
        headers = dict(record.headers())
        known = {name: value for name, value in headers.items() if name.startswith("ce_") or name == "content-type"}
        event = from_binary(KafkaMessage(headers=known, key=record.key(), value=record.value()), JSONFormat())
        assert event.get_specversion() == "1.0", headers
        headers_agree, data_agrees = messages.get(event.get_type()) or messages[None]
        key = record.key()
        assert event.get_extension("partitionkey") == (key and key.decode()), headers
        assert known.get("ce_partitionkey") == key, headers
        headers_agree.validate({name: value.decode() for name, value in headers.items() if name != "trace"})
        if data_agrees:
            data_agrees.validate(event.get_data())
        counts[topic] += 1
print(json.dumps(counts))
