"""The ledger in Postgres: merges joined states of inquiries into the facts, together with the offset they were read up to.

The merge is a set union within the bounds of the contract, a statement for each kind of fact (ledger.sql). Offset and facts
move in one transaction, and only while this process owns the partition. So a record counts once however often it is read,
and a process that was replaced changes nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import psycopg

from services.common.errors import UnsureError
from services.common.events import CompanyErased, InquiryReplies
from services.common.postgres import Statements, load_statements

SQL: Final = load_statements("services.aggregator.ingest", "ledger.sql")
ChangedFact = tuple[str, str | None, datetime | None]
"""Company, inquiry and instant of a fact that changed; without inquiry and instant everything of the company changed."""


@dataclass(slots=True)
class PartitionOwnership:
    """A partition that this process owns: its epoch and the next offset to merge."""

    partition: int
    epoch: int
    next_offset: int


class Ledger:
    """Writes of one aggregator over one connection (autocommit); not to be shared by threads."""

    def __init__(self, connection: psycopg.Connection, topic: str) -> None:
        self._sql = Statements(connection, SQL, topic=topic)

    def check_topic(self, topic_id: str) -> bool:
        """Whether the stored offsets belong to this topic; if not, every partition restarts at offset 0."""
        with self._sql.transaction():
            stored_topic = self._sql.one("topic")
            if stored_topic is not None and stored_topic["topic_id"] == topic_id:
                return True
            if stored_topic is not None:
                self._sql.run("restart")
            self._sql.run("new_topic", topic_id=topic_id)
            return stored_topic is None

    def take(self, partitions: Iterable[int]) -> list[PartitionOwnership]:
        """Take ownership of partitions."""
        owned = []
        with self._sql.transaction():
            for partition in sorted(partitions):
                position = self._sql.one("take", partition=partition)
                assert position is not None
                owned.append(PartitionOwnership(partition, position["owner_epoch"], position["next_offset"]))
        return owned

    def merge(
        self, owned: PartitionOwnership, next_offset: int, events: Sequence[InquiryReplies | CompanyErased]
    ) -> None:
        """Merge events of one partition, in order, and move its offset in the same transaction.

        UnsureError if another process owns the partition now; then nothing is written.
        """
        with self._sql.transaction():
            advanced = self._sql.one(
                "advance",
                partition=owned.partition,
                epoch=owned.epoch,
                expected=owned.next_offset,
                next=next_offset,
            )
            if advanced is None:
                raise UnsureError(f"partition {owned.partition} belongs to another process now")
            changed: list[ChangedFact] = []
            states: list[InquiryReplies] = []
            for event in events:
                if isinstance(event, InquiryReplies):
                    states.append(event)
                else:
                    changed += self._merge_states(states)
                    states = []
                    self._erase(event)
                    changed.append((event.company_id, None, None))
            changed += self._merge_states(states)
            if changed:
                companies, inquiries, ats = (list(column) for column in zip(*changed, strict=True))
                erased = [event.company_id for event in events if isinstance(event, CompanyErased)]
                self._sql.run("mark_dirty", companies=companies, inquiries=inquiries, ats=ats, erased=erased)
        owned.next_offset = next_offset

    def _merge_states(self, states: Sequence[InquiryReplies]) -> list[ChangedFact]:
        """Merge states; returns every fact that changed."""
        changed: list[ChangedFact] = []
        if not states:
            return changed
        for round_ in _rounds([state for state in states if state.received_at is not None]):
            changed += self._sql.tuples("merge_inquiries", inquiries=_json([_inquiry(state) for state in round_]))
        statuses = [_status(state, fact) for state in states for fact in state.statuses]
        replies = [_reply(state, fact) for state in states for fact in state.replies]
        touched = sorted({(state.company_id, state.inquiry_id) for state in states})
        touched_keys = {
            "companies": [company for company, _ in touched],
            "inquiries": [inquiry for _, inquiry in touched],
        }
        if statuses:
            changed += self._sql.tuples("merge_statuses", statuses=_json(statuses))
            changed += self._sql.tuples("bound_statuses", **touched_keys)
        if replies:
            changed += self._sql.tuples("merge_replies", replies=_json(replies))
        # An earlier received_at moves the bound even if there is no new reply.
        changed += self._sql.tuples("bound_replies", **touched_keys)
        return changed

    def _erase(self, event: CompanyErased) -> None:
        for name in ("erase_remember", "await_restore", "erase_replies", "erase_statuses", "erase_inquiries"):
            self._sql.run(name, company_id=event.company_id, at=event.at)
        # Once more if the archiver has written a file again meanwhile: the part is in the new one.
        while parts := self._sql.all("erasable_parts", company_id=event.company_id, at=event.at):
            files = sorted({part["file_id"] for part in parts})
            self._sql.run("mark_outdated", files=files)
            self._sql.run("erase_archived", company_id=event.company_id, at=event.at, files=files)


def _json(rows: Sequence[dict[str, Any]]) -> str:
    return msgspec.json.encode(rows).decode()


def _rounds(states: Sequence[InquiryReplies]) -> list[list[InquiryReplies]]:
    """Split states so that no inquiry occurs twice in one statement: the n-th state of each inquiry goes into the n-th round."""
    rounds: list[list[InquiryReplies]] = []
    next_round: dict[tuple[str, str], int] = {}
    for state in states:
        key = (state.company_id, state.inquiry_id)
        index = next_round.get(key, 0)
        next_round[key] = index + 1
        if index == len(rounds):
            rounds.append([])
        rounds[index].append(state)
    return rounds


def _inquiry(state: InquiryReplies) -> dict[str, Any]:
    assert state.received_at is not None
    buyer = state.buyer
    return {
        "company_id": state.company_id,
        "inquiry_id": state.inquiry_id,
        "account_id": state.account_id,
        "received_at": state.received_at,
        "facts_id": state.facts_id,
        "buyer_id": None if buyer is None else buyer.id,
        "buyer_region": None if buyer is None else buyer.region,
        "buyer_sent_from_region": None if buyer is None else buyer.sent_from_region,
        "thread_id": state.thread_id,
        "channel": state.channel,
        "buyer_addresses": [] if buyer is None else sorted(set(buyer.addresses))[:64],
        "message_ids": sorted(set(state.message_ids))[:64],
        "reply_addresses": sorted(set(state.reply_addresses))[:64],
    }


def _status(state: InquiryReplies, fact: Any) -> dict[str, Any]:
    return {
        "company_id": state.company_id,
        "inquiry_id": state.inquiry_id,
        "status": fact.status,
        "at": fact.at,
        "account_id": fact.account_id or "",
    }


def _reply(state: InquiryReplies, fact: Any) -> dict[str, Any]:
    return {
        "company_id": state.company_id,
        "inquiry_id": state.inquiry_id,
        "reply_id": fact.reply_id,
        "source": fact.source,
        "account_id": fact.account_id,
        "mailbox_id": fact.mailbox_id or "",
        "replied_at": fact.replied_at,
        "evidence": fact.evidence or "",
        "kind": fact.kind,
        "kind_reason": fact.kind_reason or "",
        "matched_by": fact.matched_by,
    }
