"""The directory of mail providers: which IMAP server belongs to an address, and how we know. Pure.

In order: the domain stands in the directory → one of its MX servers does → it has an `_imaps._tcp` record (RFC 6186)
→ `imap.` or `mail.` before it answers as an IMAP server → the person is asked. `decide` says which fact it needs next;
whoever acts (`lookup.py`) brings it, or leaves it out.

Only a host out of the directory is `trusted`: a password goes to any other one when a person has confirmed it.
"""

import json
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, Literal

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from services.common.errors import ConfigError
from services.common.hashing import normalise_address

How = Literal["name", "domain", "mx", "srv", "guess", "ask"]
Need = Literal["mx", "srv", "guess"]
Language = Literal["en", "zh"]

GUESSES: Final = ("imap.{domain}", "mail.{domain}")
POP_PORTS: Final = (110, 995)
SMTP_PORTS: Final = (25, 465, 587, 2525)
PLAIN_PORT: Final = 143
TLS_PORT: Final = 993
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+-]*):/+")
_PORT: Final = re.compile(r"(?P<host>[^:\s]*)[:\s]\s*(?P<port>\d{1,5})")
_SIGNS: Final = str.maketrans({"。": ".", "、": "/", "\u200b": None, "\ufeff": None})
"""What the keys `.` and `/` type in a Chinese input method, and signs that nobody sees."""
_LABEL: Final = re.compile(r"(?:hw)?(pop|smtp)3?(?:s|out|com|w|pro|mail|-.*)?")


class Bilingual(msgspec.Struct, frozen=True):
    """A text in both languages."""

    en: str
    zh: str

    def text(self, language: Language) -> str:
        """The text in one of them."""
        return self.zh if language == "zh" else self.en


class Caution(Bilingual, frozen=True):
    """A warning about a provider, with where and when (YYYY-MM) it was read."""

    source: str
    as_of: str


class ProviderLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a provider allows; None: not known."""

    logins_per_hour: int | None = None
    sessions: int | None = None
    visible_days: int | None = None
    visible_messages: int | None = None


class FaqRow(msgspec.Struct, frozen=True):
    """What the platform's FAQ of 2016 said: row of its table, hosts, ports (None: not given)."""

    row: int
    name: str
    hosts: tuple[str, ...] = ()
    plain: int | None = None
    tls: int | None = None
    supported: bool = True


class UnconfirmedServer(msgspec.Struct, frozen=True):
    """An entry of `hosts` or `mx` that no current source confirms, with where and when (YYYY-MM) it was read."""

    key: Literal["hosts", "mx"]
    name: str
    source: str
    as_of: str


class Provider(msgspec.Struct, frozen=True):
    """One provider; schemas/provider.schema.json explains each field."""

    id: str
    name: str
    software: str
    domains: tuple[str, ...]
    mx: tuple[str, ...]
    hosts: tuple[str, ...]
    port: int
    plain_port: int
    security: Literal["tls"]
    not_imap: tuple[str, ...]
    auth: tuple[str, ...]
    user_name: Literal["address", "local-part"]
    id_command: str
    sent_folders: tuple[str, ...]
    distrust: tuple[str, ...]
    limits: ProviderLimits
    files_sent: str
    support: str
    reason: Bilingual
    advice: Bilingual
    unconfirmed: tuple[str, ...]
    faq: tuple[FaqRow, ...]
    source: str
    as_of: str
    family: str | None = None
    caution: Caution | None = None
    doubts: tuple[UnconfirmedServer, ...] = ()

    def servers(self, domain: str) -> tuple[tuple[str, int], ...]:
        """(host, port) in the order to try them."""
        return tuple((host.replace("{domain}", domain), self.port) for host in self.hosts)


@dataclass(frozen=True, slots=True)
class SrvRecord:
    """One `_imaps._tcp` record; target "." means that the domain offers no IMAP."""

    target: str
    port: int
    priority: int = 0
    weight: int = 0


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """What was found out about a domain; None: nobody asked."""

    mx: tuple[str, ...] | None = None
    srv: tuple[SrvRecord, ...] | None = None
    answering: tuple[tuple[str, int], ...] | None = None


@dataclass(frozen=True, slots=True)
class LookupAnswer:
    """Where the mailbox of an address may be. `evidence` is what decided: a domain, an MX server, a record, a host."""

    domain: str
    how: How
    provider: Provider | None
    servers: tuple[tuple[str, int], ...]
    evidence: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class HostMistake:
    """What is wrong with a typed host or port, as a code of connection_texts.toml, and the host to write.

    Not `certain`: only the name looks so, and a server of that name may well speak IMAP.
    """

    code: str
    host: str
    certain: bool


@dataclass(frozen=True, slots=True)
class TypedServer:
    """A server as a person typed it, taken apart: `host` in lower case, `port` and `scheme` where they stood with it."""

    host: str
    port: int | None = None
    scheme: str = ""


class ProviderCatalog:
    """All providers, found by domain, MX server, host or name."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self.providers = tuple(providers)
        self._by_domain = {domain: one for one in providers for domain in one.domains}
        self._by_mx = {suffix: one for one in providers for suffix in one.mx}
        self._by_host: dict[str, Provider] = {}
        self._wrong = {host: one for one in providers for host in one.not_imap}
        for one in providers:
            for host in one.hosts:
                if "{" not in host:
                    self._by_host.setdefault(host, one)

    def by_domain(self, domain: str) -> Provider | None:
        """The provider of a domain that stands in the directory."""
        return self._by_domain.get(domain)

    def by_mx(self, server: str) -> Provider | None:
        """The provider whose MX server this is: the whole name, or what stands behind one of its dots."""
        return next((self._by_mx[name] for name in _ends(server) if name in self._by_mx), None)

    def by_host(self, host: str) -> Provider | None:
        """The provider that an IMAP server belongs to."""
        return self._by_host.get(host_name(host))

    def of_mailbox(self, address: str, host: str) -> Provider | None:
        """The provider of a mailbox that is or will be connected: by its domain, else by its server."""
        domain = domain_of(address)
        return (self.by_domain(domain) if domain else None) or self.by_host(host)

    def named(self, text: str) -> Provider | None:
        """The provider called so: its id, its name, its name in the FAQ, or the only one with this in its names."""
        wanted = _folded(text)
        names = {one.id: {_folded(name) for name in (one.id, one.name, *(row.name for row in one.faq))} for one in self.providers}  # fmt: skip
        exact = [one for one in self.providers if wanted in names[one.id]]
        within = [one for one in self.providers if any(wanted in name for name in names[one.id])]
        found = exact or (within if wanted else [])
        return found[0] if len(found) == 1 else None

    def mistake(self, host: str, port: int, address: str) -> HostMistake | None:
        """What a person got wrong in host or port, judged from what was typed alone; None when nothing is seen."""
        written, domain = typed(host), domain_of(address)
        name = written.host
        own = self.by_domain(domain) if domain else None
        right = own or self._wrong.get(name)
        if right is None and written.scheme:
            right = self.by_domain(parent_domain(name))  # https://mail.163.com
        first = next((server for server, _ in right.servers(domain or parent_domain(name))), None) if right else None
        kind = _kind(written.scheme) or (_kind(name) if "." in name else None)
        if name in self._wrong or kind is not None:
            code = "smtp-host" if kind == "smtp" else "pop-host"
            return HostMistake(code, first or _imap_of(name), name in self._wrong or bool(_kind(written.scheme)))
        if name and written.scheme and written.scheme not in ("imap", "imaps"):
            return HostMistake("web-address", first or (name if self.by_host(name) else _imap_of(name)), True)
        if port in POP_PORTS or port in SMTP_PORTS:
            return HostMistake("pop-port" if port in POP_PORTS else "smtp-port", first or name, True)
        if port == PLAIN_PORT:
            return HostMistake("plain-port", first or name, True)
        other = self.by_host(name)
        if own and first and other and other is not own and own.family == other.family == "netease":
            # Each NetEase domain has its own server, and the others say "wrong password" to it.
            return HostMistake("other-domains-host", first, True)
        return None


def decide(
    directory: ProviderCatalog, domain: str, facts: DomainFacts, *, offline: bool = False
) -> LookupAnswer | Need:
    """The answer for a domain (A-labels, lower case), or the fact that is needed to find it."""
    if (provider := directory.by_domain(domain)) is not None:
        return _known(domain, "domain", provider, domain)
    if offline:
        return LookupAnswer(domain, "ask", None, (), "the domain is not in the directory", False)
    if facts.mx is None:
        return "mx"
    for server in facts.mx:
        if (provider := directory.by_mx(server)) is not None:
            return _known(domain, "mx", provider, server.rstrip(".").lower())
    if facts.srv is None:
        return "srv"
    offered = sorted(facts.srv, key=lambda one: (one.priority, -one.weight, one.target))
    if offered and all(one.target.rstrip(".") == "" for one in offered):
        return LookupAnswer(domain, "ask", None, (), "its DNS says that it offers no IMAP", False)
    if found := tuple((one.target.rstrip(".").lower(), one.port) for one in offered if one.target.rstrip(".")):
        provider = directory.by_host(found[0][0])
        return LookupAnswer(domain, "srv", provider, found, f"_imaps._tcp.{domain}", provider is not None)
    if facts.answering is None:
        return "guess"
    if facts.answering:
        return LookupAnswer(domain, "guess", None, facts.answering, facts.answering[0][0], False)
    return LookupAnswer(domain, "ask", None, (), "nothing is known of the domain", False)


def doubts(answer: LookupAnswer) -> tuple[UnconfirmedServer, ...]:
    """What no current source confirms of an answer: the MX server that decided, the servers that were found."""
    provider = answer.provider
    if provider is None:
        return ()
    decided = [name for name in _ends(answer.evidence) if name in provider.mx][:1] if answer.how == "mx" else []
    names = [("mx", name) for name in decided] + [("hosts", host) for host, _ in answer.servers]
    return tuple(one for key, name in names if (one := doubt(provider, key, name)) is not None)


def doubt(provider: Provider, key: str, name: str) -> UnconfirmedServer | None:
    """That no current source confirms an entry of a provider's `hosts` or `mx`: this one, or all MX servers together."""
    if key == "mx" and "mx" in provider.unconfirmed:
        return UnconfirmedServer("mx", name, provider.source, provider.as_of)
    return next((one for one in provider.doubts if (one.key, one.name) == (key, name)), None)


def typed(text: str) -> TypedServer:
    """What a person meant who typed a server: full-width signs, blanks around dots, a scheme, a path or a port with it.

    Whether that is a host at all is `session.check_host`'s to say.
    """
    plain = unicodedata.normalize("NFKC", text).translate(_SIGNS).strip().lower()
    plain = re.sub(r"\s*([.:/])\s*", r"\1", plain)
    scheme = _SCHEME.match(plain)
    rest = re.split(r"[/?#]", plain[scheme.end() :] if scheme else plain, maxsplit=1)[0]
    port = _PORT.fullmatch(rest)
    number = int(port["port"]) if port and 0 < int(port["port"]) <= 65535 else None
    host = port["host"] if port and number else rest
    return TypedServer(host.rstrip("."), number, scheme[1] if scheme else "")


def parent_domain(host: str) -> str:
    """The domain that a server's name belongs to: what stands behind its first label, when that can be a domain."""
    behind = host.partition(".")[2]
    return behind if "." in behind else host


def host_name(text: str) -> str:
    """A server's name as it is compared: without blanks around it and the root's dot, in lower case."""
    return text.strip().rstrip(".").lower()


def domain_of(address: str) -> str | None:
    """The domain of an address (or a bare domain) as A-labels in lower case; None when it is none."""
    text = address.strip()
    normal = normalise_address(text if "@" in text else f"x@{text}")
    domain = normal.rpartition("@")[2].rstrip(".") if normal else ""
    labels = domain.split(".")
    fits = len(domain) <= 253 and len(labels) > 1 and all(_is_label(label) for label in labels)
    return domain if fits else None


def guesses(domain: str, ports: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """Servers that a domain may have, at the ports that may be connected to."""
    return tuple((host.format(domain=domain), port) for host in GUESSES for port in ports)


def parse(text: str, origin: str) -> ProviderCatalog:
    """The directory from TOML. ConfigError that names `origin`, the block, the key, its value and what is allowed."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not TOML: {error}") from None
    families = data.get("families", {})
    problems = [f"{origin}: {key}: no such table; write [[provider]] or [families.NAME]" for key in data if key not in ("provider", "families")]  # fmt: skip
    blocks: list[dict[str, Any]] = []
    for number, own in enumerate(data.get("provider", []), 1):
        name, family = own.get("id", f"number {number}"), own.get("family")
        if family is not None and family not in families:
            problems.append(f"{origin}: provider {name}: family: {family!r} is none of {', '.join(sorted(families))}")
            continue
        blocks.append(block := {**families.get(family, {}), **own})
        found = sorted(Draft202012Validator(schema()).iter_errors(block), key=lambda error: list(map(str, error.path)))
        problems += [f"{origin}: provider {name}: {_problem(error)}" for error in found]
    if not problems:
        problems = [f"{origin}: {problem}" for problem in _twice(blocks)]
    if problems:
        raise ConfigError(problems)
    return ProviderCatalog(msgspec.convert(blocks, list[Provider]))


@cache
def load() -> ProviderCatalog:
    """services/providers/providers.toml."""
    return parse(
        resources.files("services.providers").joinpath("providers.toml").read_text("utf-8"),
        "services/providers/providers.toml",
    )


@cache
def schema() -> dict[str, Any]:
    """schemas/provider.schema.json."""
    found: dict[str, Any] = json.loads(resources.files("schemas").joinpath("provider.schema.json").read_text("utf-8"))
    return found


def _known(domain: str, how: How, provider: Provider, evidence: str) -> LookupAnswer:
    return LookupAnswer(domain, how, provider, provider.servers(domain), evidence, True)


def _problem(error: ValidationError) -> str:
    """The key, its value and what is allowed, as one sentence."""
    path = ".".join(map(str, error.absolute_path))
    return f"{path}: {error.message}" if path else f"{error.message}; schemas/provider.schema.json explains every key"


def _twice(blocks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Ids, domains, MX servers and rows of the FAQ that stand in two blocks: a look-up could not tell them apart; and
    doubts about what does not stand there."""
    held: dict[tuple[str, str], str] = {}
    problems = []
    for block in blocks:
        for one in block.get("doubts", []):
            if one["name"] not in block[one["key"]]:
                problems.append(f"provider {block['id']}: doubts: {one['name']!r} does not stand in {one['key']}")
        keys = [("id", block["id"]), *(("faq.row", str(row["row"])) for row in block["faq"])]
        keys += [(key, value) for key in ("domains", "mx") for value in block[key]]
        for key in keys:
            if key in held:
                problems.append(f"provider {block['id']}: {key[0]}: {key[1]!r} stands in provider {held[key]} already")
            held.setdefault(key, block["id"])
    return problems


def _ends(server: str) -> list[str]:
    """A server's name, then what stands behind each of its dots."""
    labels = server.rstrip(".").lower().split(".")
    return [".".join(labels[start:]) for start in range(len(labels))]


def _kind(host: str) -> Literal["pop", "smtp"] | None:
    """What a host's first label (of several), or a scheme, says that it is: `pop3.`, `smtpout.`, `hwpop.` …"""
    match = _LABEL.fullmatch(host.split(".", maxsplit=1)[0])
    return None if match is None else ("smtp" if match[1] == "smtp" else "pop")


def _imap_of(host: str) -> str:
    """The server's name with `imap` for what its first label says."""
    return "imap." + parent_domain(host)


def _is_label(label: str) -> bool:
    return 1 <= len(label) <= 63 and all(char.isalnum() or char in "-_" for char in label) and label.isascii()


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()
