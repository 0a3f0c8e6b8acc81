"""The kinds of error, one decision each (docs/failures.md).

ConfigError     exit 78 with every problem listed
TransientError  back off and retry the same work; offsets do not move, the heartbeat continues (retry.py)
UnsureError     exit 70 and replay: state in memory and durable state may differ
InvalidEvent    dead letter, next record; the worker stops after many in a row
anything else   crash, restart
"""

from collections.abc import Sequence

from services.common.language import Bilingual, in_language

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_UNSURE = 70
"""State unsure: in-memory and durable state may differ, so restart and replay."""
EXIT_CONFIG = 78


class ReplyrateError(Exception):
    """Base of every error that replyrate raises on purpose; its text is written for people.

    `sentences`: what it says; in both languages where it is one of a fixed set of sentences, which pages show in the reader's language.
    """

    def __init__(self, *args: object) -> None:
        self.sentences: tuple[str | Bilingual, ...] = tuple(
            sentence for sentence in args if isinstance(sentence, str | Bilingual)
        )
        super().__init__(*(in_language(sentence, "en") for sentence in args))

    @property
    def bilingual(self) -> Bilingual:
        """Its text in both languages; what has no Chinese is English in both."""
        return Bilingual(str(self), "；".join(in_language(sentence, "zh") for sentence in self.sentences))


class ConfigError(ReplyrateError):
    """The configuration is invalid. `problems` has one sentence per problem, each with the name and what to write."""

    def __init__(self, problems: Sequence[str | Bilingual] | str | Bilingual) -> None:
        sentences = (problems,) if isinstance(problems, str | Bilingual) else tuple(problems)
        self.problems = tuple(in_language(sentence, "en") for sentence in sentences)
        super().__init__("; ".join(self.problems))
        self.sentences = sentences


class TransientError(ReplyrateError):
    """A dependency is not reachable or busy; the same work may succeed later."""


class UnsureError(ReplyrateError):
    """This process does not know whether its state is the durable one; it must exit 70 and replay."""


class InvalidEvent(ReplyrateError):
    """A record breaks its contract.

    `reason` is a code of a closed list (metrics.REASONS); `detail` names the field and the rule, never a value, an
    address or a secret.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}")


class AheadOfClock(InvalidEvent):
    """The `time` of a record is too far after the clock of this host: one of both is wrong (clock_witness.py)."""
