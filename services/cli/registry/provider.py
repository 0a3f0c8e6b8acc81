"""Mail providers: `provider lookup|list|check`."""

import unicodedata
from dataclasses import replace
from typing import Any

import click
import msgspec
from rich.cells import cell_len

from services.cli.context import as_json, environment, guarded, in_language
from services.cli.output import echo, errors, print_json, print_table
from services.cli.registry.mailbox.server import look_up_domain
from services.cli.registry.provider_check import provider_check
from services.common.language import Language
from services.common.settings import ImapSettings, load_imap_settings
from services.connect import texts
from services.providers import catalog
from services.providers.addresses import domain_of, parent_domain
from services.providers.lookup_decision import LookupAnswer, unconfirmed_servers
from services.providers.mail_server import TLS_PORT
from services.providers.provider import FaqRow, Provider
from services.providers.typed_server import HostMistake, find_mistake, parse_server
from services.registry.errors import RegistryError


@click.group()
def provider() -> None:
    """Mail providers and what is known about their IMAP servers."""


provider.add_command(provider_check)


@provider.command("lookup")
@click.argument("address")
@click.option("--offline", is_flag=True, help="Use the provider directory alone: no DNS, no connection.")
@in_language
@as_json
@guarded
def provider_lookup(address: str, offline: bool, language: Language, json_: bool) -> None:
    """Look up the IMAP server of an address, with the evidence.

    ADDRESS may also be a domain, a server or a provider's name. Looked up in this order: the domain in the provider directory, its MX servers, its DNS record for IMAP, the names imap.
    and mail. before the domain (connected to without user name or password). Needs no configuration.
    """
    answer, problems, mistake = look_up(address, load_imap_settings(environment()), offline=offline)
    if json_:
        print_json(answer_data(address, answer, problems, mistake))
        return
    for problem in problems:
        errors.print(f"warning: {problem}", style="yellow", markup=False)
    for name, value in answer_lines(answer, language, mistake):
        label = texts.phrase(f"label-{name}", language)
        echo(label + " " * max(1, 15 - cell_len(label)) + value)


@provider.command("list")
@as_json
@guarded
def provider_list(json_: bool) -> None:
    """List all providers of the directory."""
    providers = catalog.load().providers
    if json_:
        print_json([provider_data(provider) for provider in providers])
        return
    print_table(
        [
            {
                "id": provider.id,
                "name": provider.name,
                "hosts": ", ".join(provider.hosts),
                "auth": ", ".join(provider.auth),
                "support": provider.support,
            }
            for provider in providers
        ],
        {"id": "provider", "name": "name", "hosts": "servers", "auth": "secret", "support": "support"},
    )


def look_up(text: str, settings: ImapSettings, *, offline: bool) -> tuple[LookupAnswer, list[str], HostMistake | None]:
    """Look up an address, a domain, a server or a provider's name. Raises RegistryError for anything else.

    Also returns a sentence for each query that failed, and the mistake in a server name that was typed.
    """
    directory = catalog.load()
    plain = unicodedata.normalize("NFKC", text).strip()
    mistake = None
    if "@" not in plain:
        typed = parse_server(plain)
        mistake = find_mistake(directory, plain, typed.port or TLS_PORT, "")
        provider = None
        # Domains come first: 163.com is also part of other providers' names.
        if directory.by_domain(typed.host) is None:
            provider = directory.named(plain) or directory.by_host(typed.host)
            if provider is None and mistake is not None:
                provider = directory.by_host(mistake.host)
        if provider is not None:
            return LookupAnswer("", "name", provider, provider.servers("{domain}"), plain, True), [], mistake
        plain = parent_domain(mistake.host) if mistake else typed.host
    domain = domain_of(plain)
    if domain is None:
        raise RegistryError("this is not an address, a domain or a provider; write name@domain")
    answer, problems = look_up_domain(domain, settings, offline=offline)
    if mistake is not None and answer.servers:
        mistake = replace(mistake, host=answer.servers[0].host)
    return answer, problems, mistake


def answer_lines(answer: LookupAnswer, language: Language, mistake: HostMistake | None = None) -> list[tuple[str, str]]:
    """A look-up for people: name and value of each line."""
    servers = ", ".join(
        f"{server.host}:{server.port} ({'TLS' if server.tls == 'implicit' else 'STARTTLS'})"
        for server in answer.servers
    )
    how = texts.phrase(f"how-{answer.how}", language)
    lines = [
        ("server", servers or texts.phrase("ask-provider", language)),
        ("how", f"{how} ({answer.evidence})"),
    ]
    if mistake is not None:
        lines.insert(0, ("caution", texts.mistake(mistake, language)))
    for doubt in unconfirmed_servers(answer):
        words = {"entry": doubt.name, "source": doubt.source, "as_of": doubt.as_of}
        lines.append(("unconfirmed", texts.phrase(f"unconfirmed-{doubt.key}", language, **words)))
    if not answer.trusted and answer.servers:
        lines.append(("caution", texts.phrase("unconfirmed-host", language)))
    return lines if answer.provider is None else lines + provider_lines(answer.provider, language)


def provider_lines(provider: Provider, language: Language) -> list[tuple[str, str]]:
    """What the directory holds about a provider, for people: name and value of each line."""
    comma, colon = ("、", "：") if language == "zh" else (", ", ": ")
    folders = ", ".join(provider.sent_folders) or "?"
    filing = texts.word(provider.files_sent, language)
    lines = [
        ("provider", f"{provider.name} [{provider.id}]"),
        ("support", texts.word(provider.support, language) + colon + provider.reason.text(language)),
        ("secret", comma.join(texts.word(kind, language) for kind in provider.auth)),
        ("advice", provider.advice.text(language)),
        ("sent", texts.phrase("sent-over-smtp", language, folders=folders, filing=filing)),
    ]
    if caution := provider.caution:
        lines.append(("caution", f"{caution.text(language)} ({caution.source}, {caution.as_of})"))
    lines += [
        ("faq", texts.phrase("faq-row", language, row=str(faq.number), told=faq_text(faq, language)))
        for faq in provider.faq
    ]
    if provider.unconfirmed:
        names = comma.join(texts.word(key, language) for key in provider.unconfirmed)
        lines.append(("unconfirmed", names))
    lines.append(("source", f"{provider.source} ({provider.as_of})"))
    return lines


def faq_text(faq: FaqRow, language: Language = "en") -> str:
    """What the platform's FAQ of 2016 said about a provider."""
    if not faq.supported:
        return texts.phrase("faq-unsupported", language)
    hosts = ("、" if language == "zh" else " or ").join(faq.hosts)
    return texts.phrase("faq-ports", language, hosts=hosts, plain=str(faq.plain or "–"), tls=str(faq.tls or "–"))


def answer_data(
    asked: str, answer: LookupAnswer, problems: list[str], mistake: HostMistake | None = None
) -> dict[str, Any]:
    """A look-up as plain values."""
    return {
        "asked": asked,
        "domain": answer.domain,
        "how": answer.how,
        "evidence": answer.evidence,
        "trusted": answer.trusted,
        "servers": [
            {"host": server.host, "port": server.port, "security": "tls" if server.tls == "implicit" else server.tls}
            for server in answer.servers
        ],
        "provider": None if answer.provider is None else provider_data(answer.provider),
        "problems": problems,
        "doubts": [
            {"key": doubt.key, "name": doubt.name, "source": doubt.source, "as_of": doubt.as_of}
            for doubt in unconfirmed_servers(answer)
        ],
        "mistake": None
        if mistake is None
        else {
            "code": mistake.code,
            "host": mistake.host,
            "text": {language: texts.mistake(mistake, language) for language in texts.LANGUAGES},
        },
    }


def provider_data(provider: Provider) -> dict[str, Any]:
    """A provider as plain values; the keys are those of schemas/provider.schema.json."""
    data: dict[str, Any] = msgspec.to_builtins(provider)
    return data
