"""How Kafka clients authenticate and encrypt: one value, made from the settings, for every client library."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from services.common.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class Sasl:
    """A login by SASL."""

    mechanism: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """The security protocol decides what applies: TLS with `SSL` and `SASL_SSL`, a login with `SASL_PLAINTEXT` and `SASL_SSL`.

    A user or a CA file that is set beside another protocol is not used.
    """

    protocol: str
    ca_file: Path | None
    sasl: Sasl | None

    @classmethod
    def of(cls, settings: KafkaSettings) -> Self:
        """The security that the settings describe; they are complete once they are loaded."""
        sasl = None
        if settings.security_protocol.startswith("SASL"):
            assert settings.sasl_mechanism and settings.sasl_username and settings.sasl_password
            sasl = Sasl(settings.sasl_mechanism, settings.sasl_username, settings.sasl_password.get_secret_value())
        return cls(settings.security_protocol, settings.ssl_ca_file, sasl)

    def ssl_context(self) -> ssl.SSLContext | None:
        """A context that verifies the brokers; None without TLS."""
        return ssl.create_default_context(cafile=self.ca_file) if self.protocol.endswith("SSL") else None

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of a client; kafka-python and aiokafka call them alike."""
        options: dict[str, Any] = {"security_protocol": self.protocol}
        if (context := self.ssl_context()) is not None:
            options["ssl_context"] = context
        if self.sasl is not None:
            options["sasl_mechanism"] = self.sasl.mechanism
            options["sasl_plain_username"] = self.sasl.username
            options["sasl_plain_password"] = self.sasl.password
        return options
