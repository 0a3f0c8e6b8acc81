"""No value that carries a secret shows it: not when it is printed, and so not in a log line or a traceback."""

import dataclasses
import importlib
import json
import logging
import pkgutil
import re
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, SecretStr

import services
from services.common.errors import ReplyrateError
from services.common.logs import ConsoleFormatter, JsonFormatter
from services.connect.requests import ConnectRequest, LoginChanges
from services.mail.values import Login
from services.registry.leases import LeasedMailbox

CANARY = "canary-3f9c"
SECRET_NAME = re.compile(
    r"(^|_)(password|passphrase|secret|token|tokens|credential|credentials|bearer|cookie|dsn|refresh|access"
    r"|(vault|hash|api|private|signing)_key)$"
)
SECRET_CLASS = re.compile(r"Token|Secret|Password|Credential")
"""Every text in such a class is taken for a secret."""
PUBLIC_TEXTS = {("OAuthClient", "token_url"), ("OAuth2Client", "token_url")}
TEXT = re.compile(r"\b(str|bytes|SecretStr)\b")

Fields = dict[str, str]
"""Name of a field → its annotation as text."""


def fields_of(cls: type[Any]) -> Fields | None:
    """The fields that the generated `repr` of a class prints; None for a class without one."""
    if dataclasses.is_dataclass(cls):
        return {field.name: _text(field.type) for field in dataclasses.fields(cls)}
    if issubclass(cls, BaseModel):
        return {name: _text(field.annotation) for name, field in cls.model_fields.items()}
    if issubclass(cls, msgspec.Struct):
        return {field.name: _text(field.type) for field in msgspec.structs.fields(cls)}
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return {name: _text(cls.__annotations__.get(name, "str")) for name in cls._fields}
    return None


def _text(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def value_classes() -> Iterator[tuple[type[Any], Fields]]:
    for module_info in pkgutil.walk_packages(services.__path__, "services."):
        module = importlib.import_module(module_info.name)
        for cls in vars(module).values():
            if isinstance(cls, type) and cls.__module__ == module.__name__ and (fields := fields_of(cls)) is not None:
                yield cls, fields


def secret_fields(cls: type[Any], fields: Fields) -> list[str]:
    return [
        name
        for name, annotation in fields.items()
        if TEXT.search(annotation)
        and "Literal" not in annotation
        and (cls.__name__, name) not in PUBLIC_TEXTS
        and (SECRET_NAME.search(name) or SECRET_CLASS.search(cls.__name__))
    ]


def instance(cls: type[Any], secret: list[str], fields: Fields) -> Any:
    """An instance whose secret fields contain the canary, made without the checks of its constructor."""
    values: dict[str, Any] = {name: CANARY if name in secret else None for name in fields}
    if issubclass(cls, BaseModel):
        hidden = {name: SecretStr(CANARY) for name in secret if "SecretStr" in fields[name]}
        return cls.model_construct(**{**values, **hidden})
    if issubclass(cls, tuple):
        return cls(*values.values())
    if issubclass(cls, msgspec.Struct):
        return cls(**values)
    value_object = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(value_object, name, value)
    return value_object


CARRIERS = {
    f"{cls.__module__}.{cls.__qualname__}": (cls, secret, fields)
    for cls, fields in value_classes()
    if (secret := secret_fields(cls, fields))
}


def test_the_values_that_carry_secrets_are_seen() -> None:
    names = {name.rpartition(".")[2] for name in CARRIERS}
    assert names >= {
        "PostgresSettings", "KafkaSettings", "OAuth2Client", "Sasl", "Login", "LeasedMailbox", "ConnectRequest",
        "LoginChanges", "TokenGrant", "OAuthClient", "DeviceCode", "_CachedToken", "_StoredToken", "_UnsavedToken",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(CARRIERS))
def test_a_value_does_not_show_its_secret(name: str) -> None:
    value = instance(*CARRIERS[name])
    assert CANARY not in repr(value)
    assert CANARY not in str(value)
    assert CANARY not in f"{[value]} {(value,)}"


@pytest.mark.parametrize("name", sorted(CARRIERS))
@pytest.mark.parametrize("formatter", [JsonFormatter("tests"), ConsoleFormatter("tests")])
def test_neither_a_log_field_nor_an_exception_shows_it(name: str, formatter: logging.Formatter) -> None:
    value = instance(*CARRIERS[name])
    try:
        raise ReplyrateError("an error that was made with the value", value)
    except ReplyrateError:
        record = logging.getLogger("services").makeRecord(
            "services",
            logging.ERROR,
            __file__,
            1,
            "a message with %s",
            (value,),
            sys.exc_info(),
            extra={"given": value},
        )
    line = formatter.format(record)
    assert "a message with" in line and "given" in line and "an error that was made" in line
    assert CANARY not in line


@pytest.mark.parametrize("cls", [Login, LeasedMailbox, ConnectRequest, LoginChanges])
def test_a_login_does_not_show_whose_it_is(cls: type[Any]) -> None:
    """The vault seals addresses and user names as it seals passwords."""
    fields = fields_of(cls)
    assert fields is not None
    personal: list[str] = [name for name in ("address", "user") if name in fields]
    assert personal and CANARY not in repr(instance(cls, personal, fields))


def test_the_json_line_of_a_secret_is_still_json() -> None:
    cls, secret, fields = CARRIERS["services.mail.values.Login"]
    record = logging.makeLogRecord({"msg": "text", "given": instance(cls, secret, fields)})
    assert "Login(" in json.loads(JsonFormatter("tests").format(record))["given"]
