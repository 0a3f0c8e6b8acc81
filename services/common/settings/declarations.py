"""Settings as docs and error messages show them, read from the models."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, SecretStr

from services.common.settings.files import PREFIX
from services.common.settings.processes import SERVICES, Config, Settings
from services.common.settings.sections import Section


class Declaration(Section):
    """One setting as docs and error messages show it."""

    name: str
    path: tuple[str, ...]
    kind: str
    default: str | None
    secret: bool
    description: str


def declarations(model: type[Config] = Settings) -> list[Declaration]:
    """Every setting of a process with its full name, in the order of the models."""
    return list(_declared(model, ()))


def readers(declaration: Declaration) -> list[str]:
    """The services that read a setting; the command line reads every one but the secret of the console's client."""
    return [
        service
        for service, model in SERVICES.items()
        if any(own.path == declaration.path for own in declarations(model))
    ]


def _declared(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Declaration]:
    for name, field in model.model_fields.items():
        if name == "warnings":
            continue
        here = (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _declared(field.annotation, here)
            continue
        default = None if field.is_required() else _default_text(field.default)
        yield Declaration(
            name=PREFIX + "__".join(part.upper() for part in here),
            path=here,
            kind=_kind(field.annotation),
            default=default,
            secret=_holds_secret(field.annotation),
            description=field.description or "",
        )


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))


def _kind(annotation: object) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kind(get_args(annotation)[0])
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin is tuple:
        return "comma-separated list"
    if origin is Mapping:
        return "comma-separated list of NAME=NUMBER"
    if origin in (UnionType, Union):
        return _kind(next(part for part in get_args(annotation) if part is not type(None)))
    return {int: "whole number", float: "number", Path: "path", SecretStr: "secret"}.get(cast(type, annotation), "text")


def _default_text(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={number}" for name, number in value.items()) or "none"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value) or "none"
    return str(value)
