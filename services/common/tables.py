"""Data files: TOML and JSON that belong to a package, checked against a JSON Schema, with every problem as a sentence.

Text that breaks its rules raises a ConfigError with all problems, each beginning with the file and the key.
"""

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any

import msgspec
from jsonschema import Draft202012Validator, ValidationError

from services.common.errors import ConfigError
from services.common.language import Bilingual


def read_text(package: str, file: str) -> str:
    """The text of `file` (a path below the folder of `package`)."""
    return resources.files(package).joinpath(*file.split("/")).read_text("utf-8")


def origin_of(package: str, file: str) -> str:
    """The path of a data file from the root of the repository, as messages name it."""
    return f"{package.replace('.', '/')}/{file}"


def read_table(package: str, file: str) -> dict[str, Any]:
    """The TOML data file `file` of `package`. ConfigError that names it when it is not TOML."""
    return parse_table(read_text(package, file), origin_of(package, file))


def parse_table(text: str, origin: str) -> dict[str, Any]:
    """TOML text; `origin` names the file in the ConfigError that is raised when it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            Bilingual(f"{origin}: not TOML: {error}", f"{origin}：不是有效的 TOML（系统原文：{error}）")
        ) from None


@cache
def read_sentences(package: str, file: str, section: str | None = None) -> Mapping[str, Bilingual]:
    """The texts of a table, or of a section of it, by code."""
    table = read_table(package, file)
    return msgspec.convert(table if section is None else table[section], dict[str, Bilingual])


def read_json(package: str, file: str) -> dict[str, Any]:
    """The JSON data file `file` of `package`."""
    data: dict[str, Any] = json.loads(read_text(package, file))
    return data


@cache
def schema(name: str) -> dict[str, Any]:
    """The JSON Schema schemas/NAME.schema.json."""
    return read_json("schemas", f"{name}.schema.json")


def schema_problems(
    table: Mapping[str, Any],
    schema_name: str,
    where: str,
    *,
    explained_in: str | None = None,
    wording: Callable[[ValidationError], str | None] = lambda error: None,
) -> list[str]:
    """What in `table` breaks the schema, in English; as `schema_sentences`."""
    sentences = schema_sentences(table, schema_name, where, explained_in=explained_in, wording=wording)
    return [sentence.en for sentence in sentences]


def schema_sentences(
    table: Mapping[str, Any],
    schema_name: str,
    where: str,
    *,
    explained_in: str | None = None,
    wording: Callable[[ValidationError], str | None] = lambda error: None,
) -> list[Bilingual]:
    """What in `table` breaks the schema: `where: key: the value and what is allowed; the file that explains every key`.

    `explained_in`: that file, the schema itself by default. `wording` may replace the library's words for an error.
    """
    file = explained_in or f"schemas/{schema_name}.schema.json"
    errors = Draft202012Validator(schema(schema_name)).iter_errors(table)
    problems = []
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        key = ".".join(map(str, error.absolute_path))
        words = wording(error) or error.message
        problems.append(
            Bilingual(
                f"{where}: {key + ': ' if key else ''}{words}; {file} explains every key",
                f"{where}：{key + '：' if key else ''}{_in_chinese(error, words)}；各键的说明见 {file}",
            )
        )
    return problems


def _in_chinese(error: ValidationError, words: str) -> str:
    """What an error says in Chinese; `words`: the same in English, which is quoted where there is no Chinese sentence."""
    template = read_table("services.common", "schema_problems.toml").get(str(error.validator))
    if template is None:
        return f"不符合要求（系统原文：{words}）"
    names = ", ".join(re.findall(r"'([^']*)'", error.message))
    text: str = template.format(value=repr(error.instance), allowed=error.validator_value, names=names)
    return text
