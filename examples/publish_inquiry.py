"""Publish one inquiry to `inquiries.v1`, with kafka-python and no code of replyrate.

    pip install kafka-python
    python examples/publish_inquiry.py localhost:9092 --company c-1 --account a-1 --buyer-address buyer@example.com

In any language: the key is `company_id` in UTF-8, the partitioner is murmur2 (librdkafka: set
`partitioner=murmur2_random`), the value is a CloudEvents 1.0 record in structured JSON.
"""

import argparse
import json
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

TOPIC = "inquiries.v1"
HEADERS = [("content-type", b"application/cloudevents+json")]


def instant(at: datetime) -> str:
    """RFC 3339, UTC, with `Z` and at most microseconds."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def inquiry_received(data: dict[str, Any], *, time: datetime) -> bytes:
    """The record for one inquiry; when in doubt, publish the same record again: equal facts merge."""
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"{data['inquiry_id']}/received",
            "source": "example/platform",
            "type": "replyrate.inquiry-received.v1",
            "time": instant(time),
            "datacontenttype": "application/json",
            "data": data,
        },
        ensure_ascii=False,
    ).encode()


def main() -> int:
    """Publish, wait for the acknowledgement, print the position of the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bootstrap_servers", metavar="HOST:PORT")
    parser.add_argument("--company", required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--inquiry", default=str(uuid.uuid4()), help="unique inside the company")
    parser.add_argument("--buyer", default="buyer-1")
    parser.add_argument("--buyer-address", action="append", default=[], help="up to 8")
    parser.add_argument(
        "--message-id", action="append", default=[], help="of the notification mail to the seller; up to 8"
    )
    options = parser.parse_args()
    now = datetime.now(UTC)
    record = inquiry_received(
        {
            "company_id": options.company,
            "account_id": options.account,
            "inquiry_id": options.inquiry,
            "received_at": instant(now),
            "buyer": {"id": options.buyer, "addresses": options.buyer_address},
            "message_ids": options.message_id,
        },
        time=now,
    )
    try:
        producer = KafkaProducer(bootstrap_servers=options.bootstrap_servers, acks="all")
        sent = producer.send(TOPIC, key=options.company.encode(), value=record, headers=HEADERS)
        written = sent.get(timeout=30)
        producer.close()
    except KafkaError as error:
        print(f"not published: {type(error).__name__}; is Kafka at {options.bootstrap_servers}?", file=sys.stderr)
        return 1
    print(f"{options.inquiry} is in {written.topic}, partition {written.partition}, offset {written.offset}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
