"""The faults of one run, and the dead letters that it must leave. The services and servers are in deployment.py."""

import base64
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Final

from services.common.postgres import connect
from services.common.topics import DEAD, INQUIRIES, REPLIES, SENT
from tests.faults.deployment import Deployment
from tests.faults.schedule import Fault
from tests.support.topics import read_all

FREEZE_SECONDS = 10.0

MARK: Final = b"poison"
POISON: Mapping[str, tuple[bytes, ...]] = {
    INQUIRIES: (b'{"poison": "%s"', b'{"poison": "%s", "specversion": "1.0"}', b"\xff\xfe %s"),
    SENT: (b'{"poison": "%s"', b'{"poison": "%s", "specversion": "1.0", "type": "replyrate.message-sent.v2"}'),
    REPLIES: (b'{"poison": "%s"', b"not even json: %s"),
}


class Arena(Deployment):
    """A deployment that faults can be applied to. A context manager."""

    # The faults

    def apply(self, fault: Fault) -> None:
        """Apply one fault."""
        name, _, target = fault.kind.partition("-")
        chance = random.Random(fault.dice)
        self._actions()[name](target, chance)
        self.faults[fault.kind] = self.faults.get(fault.kind, 0) + 1

    def _actions(self) -> dict[str, Callable[[str, random.Random], None]]:
        """The first word of a fault's kind → its action, which takes the rest of the kind and a random generator."""
        return {
            "kill": self._kill,
            "freeze": self._freeze,
            "second": self._second,
            "reset": self._reset,
            "slow": self._slow,
            "restart": self._restart,
            "lossy": self._lossy,
            "recreate": self._recreate,
            "delete": self._delete,
            "republish": self._republish,
            "poison": self._poison,
        }

    def _kill(self, service: str, _: random.Random) -> None:
        if service == "kafka":
            self.kafka.kill()
            self.kafka.start()
            return
        self._first(service).process.kill()

    def _freeze(self, service: str, _: random.Random) -> None:
        """Freeze a service for longer than its session or lease lasts, while a second worker takes over."""
        slot = self._first(service)
        if slot.frozen_until is not None or not slot.process.running():
            return
        slot.process.signal(signal.SIGSTOP)
        slot.frozen_until = time.monotonic() + FREEZE_SECONDS
        if service == "fetcher":
            # Leases last 30 s, the freeze 10 s: they end now, as if the freeze had been longer.
            with connect(self.direct_dsn, "faults") as connection:
                connection.execute("UPDATE registry.mailboxes SET lease_until = clock_timestamp()")
        self._second(service, random.Random(0))

    def _second(self, service: str, chance: random.Random) -> None:
        second = self._slot(service, f"{service}-{self._number()}")
        second.leaves_at = time.monotonic() + max(FREEZE_SECONDS + 2 if chance.random() > 0.8 else 6, 6)
        self._slots.append(second)

    def _reset(self, what: str, chance: random.Random) -> None:
        if what == "uidvalidity":
            mailbox = chance.choice(self.world.mailboxes)
            self.dovecot.stop()
            self.dovecot.reset_uidvalidity(mailbox.address, mailbox.folder)
            self.dovecot.start()
            return
        for proxy in self.proxies.values():
            proxy.reset()

    def _slow(self, _: str, chance: random.Random) -> None:
        for proxy in self.proxies.values():
            proxy.delay_seconds = chance.uniform(0.01, 0.08)
        self._slow_until = time.monotonic() + chance.uniform(3, 6)

    def _restart(self, _: str, chance: random.Random) -> None:
        """Immediate stop of Postgres: no checkpoint, every session is cut."""
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGQUIT)
        time.sleep(chance.uniform(0.2, 1.5))
        self._restart_postgres()

    def _lossy(self, _: str, chance: random.Random) -> None:
        """The primary is lost; its replica, which takes over, lacks the last commits."""
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGQUIT)
        self.postgres.stop()
        cluster, replica = self.folder / "postgres" / "cluster", self.folder / "postgres" / "replica"
        subprocess.run(["cp", "-a", str(cluster), str(replica)], check=True)
        self.postgres.start()
        self.rest(chance.uniform(1.5, 4))
        self.postgres.kill()
        shutil.rmtree(cluster)
        replica.rename(cluster)
        self._restart_postgres()

    def _restart_postgres(self) -> None:
        self.postgres.stop()
        self.postgres.start()

    def _recreate(self, _: str, chance: random.Random) -> None:
        """The folder is deleted and created again with the same mail, so all UIDs change."""
        mailbox = chance.choice(self.world.mailboxes)
        self.dovecot.client.delete_folder(mailbox.address, mailbox.folder)
        self.file(tuple(mail for mail in self.world.mails if mail.mailbox == mailbox.key))

    def _delete(self, _: str, __: random.Random) -> None:
        """Kill the matcher and delete everything on its disk."""
        slot = self._first("matcher")
        slot.process.kill()
        shutil.rmtree(slot.environ["REPLYRATE_MATCHER__DATA_DIR"], ignore_errors=True)

    def _republish(self, _: str, chance: random.Random) -> None:
        """Publish a part of both input topics again, in another order."""
        for topic in (INQUIRIES, SENT):
            records = [record for record in read_all(self.kafka_settings, topic) if not _planted(record.key)]
            again = chance.sample(records, min(len(records), 400))
            self.publish(topic, [(record.key or b"", record.value, record.partition) for record in again])

    def _poison(self, _: str, chance: random.Random) -> None:
        """One bad record at every place of a batch of five good ones, in each topic that is read."""
        for topic, forms in POISON.items():
            good = [record for record in read_all(self.kafka_settings, topic) if not _planted(record.key)]
            partition = chance.choice(good).partition if good else 0
            neighbours = [
                (record.key or b"", record.value, record.partition) for record in good if record.partition == partition
            ][:5]
            batch: list[tuple[bytes, bytes | None, int | None]] = []
            for place in range(len(neighbours) + 1):
                marker = f"{self._number()}"
                batch.append((MARK, chance.choice(forms).replace(b"%s", marker.encode()), partition))
                batch += neighbours[place : place + 1]
                self.planted += 1
            self.publish(topic, batch)

    # The result

    def poison_differences(self) -> list[str]:
        """Dead letters must name exactly the positions of the poison."""
        planted: set[tuple[str, int, int]] = set()
        for topic in POISON:
            planted |= {
                (topic, record.partition, record.offset)
                for record in read_all(self.kafka_settings, topic)
                if _planted(record.key)
            }
        letters = [json.loads(record.value or b"{}")["data"] for record in read_all(self.kafka_settings, DEAD)]
        lettered = {(letter.get("topic"), letter.get("partition"), letter.get("offset")) for letter in letters}
        assert len(planted) >= self.planted
        wrong = [f"poison at {place} has no dead letter" for place in sorted(planted - lettered)]
        wrong += [f"a dead letter for {place}: {_reason(letters, place)}" for place in lettered - planted]
        return wrong


def _planted(key: bytes | None) -> bool:
    return key == MARK


def _reason(letters: list[dict[str, object]], place: tuple[object, ...]) -> str:
    letter = next(
        letter for letter in letters if (letter.get("topic"), letter.get("partition"), letter.get("offset")) == place
    )
    value = base64.b64decode(str(letter.get("value") or ""))[:200]
    return f"{letter.get('reason')}: {letter.get('detail')} {value!r}"
