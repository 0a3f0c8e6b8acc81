"""Kafka: the only door to kafka-python. A publisher that waits for acknowledgements, a reader, an admin client.

What the library does that shaped this (3.0.12): rebalance listeners run on its I/O thread and must not block, so changes of
the assignment are put in a queue and taken by the loop after `poll`; `commit` without a time limit retries for ever; a
record whose acknowledgement is late may have been written all the same, so everything is sent again with the same identity.
"""

from services.common.kafka.admin import Admin
from services.common.kafka.client import CLOCK_DIFFERS, KafkaClient, translate
from services.common.kafka.publisher import Pending, Publisher
from services.common.kafka.reader import Assigned, Reader, Record, Revoked
from services.common.kafka.security import KafkaSecurity

__all__ = [
    "CLOCK_DIFFERS",
    "Admin",
    "Assigned",
    "KafkaClient",
    "KafkaSecurity",
    "Pending",
    "Publisher",
    "Reader",
    "Record",
    "Revoked",
    "translate",
]
