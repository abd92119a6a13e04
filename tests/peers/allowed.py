"""Allows a user of a Kafka cluster things.

Arguments: brokers, user, and for each thing its kind, name, pattern and operation.
"""

import sys

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

brokers, user, *words = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": brokers})
things = [
    AclBinding(
        ResourceType[what],
        name,
        ResourcePatternType[pattern],
        f"User:{user}",
        "*",
        AclOperation[operation],
        AclPermissionType.ALLOW,
    )
    for what, name, pattern, operation in zip(*[iter(words)] * 4)
]
for answer in admin.create_acls(things).values():
    answer.result(timeout=20)
