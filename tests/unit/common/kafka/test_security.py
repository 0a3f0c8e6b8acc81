"""One rule for the security of all three Kafka clients: the protocol decides."""

from typing import Any

import pytest

from services.common.kafka import KafkaSecurity
from services.common.settings import KafkaSettings

LOGIN: dict[str, Any] = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "u", "sasl_password": "secret"}


def security(protocol: str, **values: Any) -> KafkaSecurity:
    settings = {"bootstrap_servers": "kafka:9092", "security_protocol": protocol, **values}
    return KafkaSecurity.of(KafkaSettings.model_validate(settings))


@pytest.mark.parametrize(
    ("protocol", "tls", "login"),
    [
        ("PLAINTEXT", False, False),
        ("SSL", True, False),
        ("SASL_PLAINTEXT", False, True),
        ("SASL_SSL", True, True),
    ],
)
def test_the_protocol_decides_what_applies_also_when_a_login_is_set(protocol: str, tls: bool, login: bool) -> None:
    value = security(protocol, **LOGIN)
    options = value.client_options()
    assert (value.ssl_context() is not None) == tls == ("ssl_context" in options)
    assert (value.sasl is not None) == login == ("sasl_mechanism" in options)
    assert options["security_protocol"] == protocol
    if login:
        assert options["sasl_mechanism"] == "SCRAM-SHA-512"
        assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "secret")


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(security("SASL_SSL", **LOGIN))
