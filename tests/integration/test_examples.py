"""examples/publish_inquiry.py with a real broker: the record is valid and in the partition where the matcher expects it."""

import subprocess
import sys
from pathlib import Path

from services.common import codec
from services.common.events import INQUIRY_RECEIVED, InquiryReceived
from services.common.topics import INQUIRIES, partition_of
from tests.support.topics import create_topics, kafka_settings, read_all

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/publish_inquiry.py"


def test_publish_inquiry(topics_gone: str, tmp_path: Path) -> None:
    settings = kafka_settings(topics_gone)
    create_topics(settings)
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), topics_gone, "--company", "c-1", "--account", "a-1", "--inquiry", "i-1",
         "--buyer-address", "buyer@example.com", "--message-id", "<1@example.com>"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [record] = read_all(settings, INQUIRIES)
    assert record.key == b"c-1"
    assert record.partition == partition_of(b"c-1", settings.partitions)
    assert record.value is not None
    event = codec.decode(record.value, accept=frozenset({INQUIRY_RECEIVED})).data
    assert isinstance(event, InquiryReceived)
    assert (event.inquiry_id, event.buyer.addresses, event.message_ids) == (
        "i-1",
        ("buyer@example.com",),
        ("<1@example.com>",),
    )
    assert f"partition {record.partition}, offset 0" in done.stdout
