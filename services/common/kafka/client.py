"""What the clients of kafka-python have in common: options, errors, closing."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

from kafka import errors

from services.common.errors import ConfigError, TransientError
from services.common.kafka.security import KafkaSecurity
from services.common.settings import KafkaSettings

REQUEST_MS: Final = 10_000

CLOCK_DIFFERS: Final = (
    "Kafka refuses the timestamp of a record: the clock of this host differs from the broker's by more than the topic allows"
    " (message.timestamp.after.max.ms, …before.max.ms). Compare both clocks and correct the wrong one (NTP)"
)
"""Records are sent with the time of this host, so this is the fault of no record, and every other one would be refused too."""
FORBIDDEN: Final[tuple[type[BaseException], ...]] = (errors.AuthorizationError, errors.SaslAuthenticationFailedError)


class KafkaClient(ABC):
    """A client that its `with` block closes."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections to the brokers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def translate() -> Iterator[None]:
    """Turn errors of the library into ours: a refused user is a ConfigError, everything else a TransientError.

    A refused timestamp is transient too: the same record is accepted when the clock is right.
    """
    try:
        yield
    except FORBIDDEN as error:
        raise ConfigError(
            f"Kafka refuses this user ({type(error).__name__}); check REPLYRATE_KAFKA__SASL_… and the access rules of the topic"
        ) from error
    except errors.InvalidTimestampError as error:
        raise TransientError(CLOCK_DIFFERS) from error
    except errors.KafkaError as error:
        if "Unable to bootstrap" in str(error):
            # The library retries until its time is up and does not report whether a login was refused.
            raise TransientError(
                "Kafka is not reachable or refuses the connection; check that it runs and that"
                " REPLYRATE_KAFKA__BOOTSTRAP_SERVERS names it. With SASL or SSL a wrong user, password or authority"
                " (REPLYRATE_KAFKA__SASL_…, …__SSL_CA_FILE) looks the same"
            ) from error
        raise TransientError(f"Kafka is not reachable or busy ({type(error).__name__})") from error


def client_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Options of every client of the library: the brokers, their security, reconnects."""
    return {
        "bootstrap_servers": settings.bootstrap_servers.split(","),
        "client_id": client_id,
        **KafkaSecurity.of(settings).client_options(),
        "bootstrap_timeout_ms": REQUEST_MS,
        "reconnect_backoff_max_ms": 2000,
    }
