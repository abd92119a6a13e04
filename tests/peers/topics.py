"""Reads topics as a stranger does: Confluent's client, the CloudEvents SDK, JSON Schema.

Arguments: brokers, prefix, the AsyncAPI document, AsyncAPI's own schema, topics. Prints how many records each topic
has; fails where one is no CloudEvent, or does not agree with the document, or where the document is none.
"""

import json
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


def message_of(topic):
    """The message that the document has for a topic, found by the channel's address."""
    for channel in document["channels"].values():
        address = channel["address"].replace("{prefix}", prefix)
        start = address.split("{queue}")[0]
        if address == topic or ("{queue}" in address and topic.startswith(start)):
            (reference,) = channel["messages"].values()
            return document["components"]["messages"][reference["$ref"].rsplit("/", 1)[1]]
    raise SystemExit(f"the document has no channel for {topic}")


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
    message = message_of(topic)
    headers_agree = validator(message["headers"])
    data_agrees = validator(message["payload"]) if "payload" in message else None
    counts[topic] = 0
    for record in records(topic):
        headers = dict(record.headers())
        known = {name: value for name, value in headers.items() if name.startswith("ce_") or name == "content-type"}
        event = from_binary(KafkaMessage(headers=known, key=record.key(), value=record.value()), JSONFormat())
        assert event.get_specversion() == "1.0", headers
        assert event.get_extension("partitionkey").encode() == record.key(), headers
        assert known["ce_partitionkey"] == record.key(), headers
        headers_agree.validate({name: value.decode() for name, value in headers.items() if name != "trace"})
        if data_agrees:
            data_agrees.validate(event.get_data())
        counts[topic] += 1
print(json.dumps(counts))
