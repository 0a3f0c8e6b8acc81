"""Mail providers: `provider lookup|list`, and docs/providers.md, which is rendered from the directory."""

import os
import unicodedata
from dataclasses import replace

import click
from rich.cells import cell_len

from services.cli.context import WORLD, as_json, errors, guarded, print_json, print_table
from services.cli.registry.connection import answer_data, find, in_language, provider_data
from services.common.settings import ImapSettings, load_imap_settings
from services.connect import texts
from services.providers import catalog
from services.providers.catalog import HostMistake, Language, LookupAnswer, Provider
from services.registry.registry import RegistryError


@click.group()
def provider() -> None:
    """Mail providers: their IMAP servers, and what is to be known of them."""


@provider.command("lookup")
@click.argument("address")
@click.option("--offline", is_flag=True, help="Ask the directory alone: no DNS, no connection.")
@in_language
@as_json
@guarded
def provider_lookup(address: str, offline: bool, language: Language, json_: bool) -> None:
    """Which IMAP server belongs to ADDRESS (or a domain, a server's name, a provider's name), and how we know.

    In order: the domain in our directory, its MX servers, its DNS record for IMAP, imap. and mail. before the domain
    (connected without user name or password). No configuration is needed.
    """
    answer, problems, mistake = look(address, load_imap_settings(WORLD or os.environ), offline=offline)
    if json_:
        print_json(answer_data(address, answer, problems, mistake))
        return
    for problem in problems:
        errors.print(f"warning: {problem}", style="yellow", markup=False)
    for name, value in rows(answer, language, mistake):
        label = texts.phrase(f"label-{name}", language)
        click.echo(label + " " * max(1, 15 - cell_len(label)) + value)


@provider.command("list")
@as_json
@guarded
def provider_list(json_: bool) -> None:
    """All providers of the directory."""
    providers = catalog.load().providers
    if json_:
        print_json([provider_data(one) for one in providers])
        return
    print_table(
        [
            {
                "id": one.id,
                "name": one.name,
                "hosts": ", ".join(one.hosts),
                "auth": ", ".join(one.auth),
                "support": one.support,
            }
            for one in providers
        ],
        {"id": "provider", "name": "name", "hosts": "servers", "auth": "secret", "support": "support"},
    )


def look(text: str, settings: ImapSettings, *, offline: bool) -> tuple[LookupAnswer, list[str], HostMistake | None]:
    """Look up an address, a domain, a server or a provider's name. RegistryError for what is none of them.

    With sentences about what could not be asked, and what is wrong with a server that was typed.
    """
    known = catalog.load()
    plain = unicodedata.normalize("NFKC", text).strip()
    mistake = None
    if "@" not in plain:
        written = catalog.typed(plain)
        mistake = known.mistake(plain, written.port or catalog.TLS_PORT, "")
        found = None
        # A domain first: 163.com is a part of other providers' names.
        if known.by_domain(written.host) is None:
            found = (
                known.named(plain) or known.by_host(written.host) or (known.by_host(mistake.host) if mistake else None)
            )
        if found is not None:
            return LookupAnswer("", "name", found, found.servers("{domain}"), plain, True), [], mistake
        plain = catalog.parent_domain(mistake.host) if mistake else written.host
    domain = catalog.domain_of(plain)
    if domain is None:
        raise RegistryError("this is neither an address nor a domain nor a provider; write name@domain")
    answer, problems = find(domain, settings, offline=offline)
    if mistake is not None and answer.servers:
        mistake = replace(mistake, host=answer.servers[0][0])
    return answer, problems, mistake


def rows(answer: LookupAnswer, language: Language, mistake: HostMistake | None = None) -> list[tuple[str, str]]:
    """A look-up for people: name and value of each line."""
    servers = ", ".join(f"{host}:{port} (TLS)" for host, port in answer.servers)
    how = texts.phrase(f"how-{answer.how}", language)
    lines = [
        ("server", servers or texts.phrase("ask-provider", language)),
        ("how", f"{how} ({answer.evidence})"),
    ]
    if mistake is not None:
        lines.insert(0, ("caution", texts.mistyped(mistake, language)))
    for doubt in catalog.doubts(answer):
        words = {"entry": doubt.name, "source": doubt.source, "as_of": doubt.as_of}
        lines.append(("unconfirmed", texts.phrase(f"unconfirmed-{doubt.key}", language, **words)))
    if not answer.trusted and answer.servers:
        lines.append(("caution", texts.phrase("unconfirmed-host", language)))
    if (one := answer.provider) is None:
        return lines
    between = "、" if language == "zh" else ", "
    folders, filing = ", ".join(one.sent_folders) or "?", texts.word(one.files_sent, language)
    colon = "：" if language == "zh" else ": "
    lines += [
        ("provider", f"{one.name} [{one.id}]"),
        ("support", texts.word(one.support, language) + colon + one.reason.text(language)),
        ("secret", between.join(texts.word(kind, language) for kind in one.auth)),
        ("advice", one.advice.text(language)),
        ("sent", texts.phrase("sent-over-smtp", language, folders=folders, filing=filing)),
    ]
    if one.caution is not None:
        lines.append(("caution", f"{one.caution.text(language)} ({one.caution.source}, {one.caution.as_of})"))
    lines += [
        ("faq", texts.phrase("faq-row", language, row=str(row.row), told=faq_text(row, language))) for row in one.faq
    ]
    if one.unconfirmed:
        lines.append(("unconfirmed", between.join(texts.word(key, language) for key in one.unconfirmed)))
    lines.append(("source", f"{one.source} ({one.as_of})"))
    return lines


def faq_text(row: catalog.FaqRow, language: Language = "en") -> str:
    """What the FAQ said of a provider."""
    if not row.supported:
        return texts.phrase("faq-unsupported", language)
    hosts = ("、" if language == "zh" else " or ").join(row.hosts)
    return texts.phrase("faq-ports", language, hosts=hosts, plain=str(row.plain or "–"), tls=str(row.tls or "–"))


def page() -> str:
    """docs/providers.md."""
    providers = catalog.load().providers
    by_row = sorted(((row, one) for one in providers for row in one.faq), key=lambda pair: pair[0].row)
    lines = [
        "# Mail providers",
        "",
        "Rendered by `make docs` from `services/providers/providers.toml`. How the server of a mailbox is found, in this order:",
        "the domain of the address in this directory; its MX servers; its `_imaps._tcp` record (RFC 6186); `imap.` and",
        "`mail.` before the domain, which are only greeted, without user name and password, and only at public addresses. A",
        "password goes without asking to servers of this directory alone. `replyrate provider lookup ADDRESS` shows what is",
        "found and how; `mailbox add` and `mailbox test` use it when no `--host` is given.",
        "",
        "Everything was read in public sources in the month that is named, nothing was tried with a real account. What no",
        "current source confirms is marked with °. [dev/lab.md](dev/lab.md) shows what the connection test says of each family.",
        "",
        "## The table of the FAQ, then and now",
        "",
        "| Row | Provider | FAQ of 2016 | Server now (TLS) | Secret | Support |",
        "|---|---|---|---|---|---|",
    ]
    for row, one in by_row:
        lines.append(
            f"| {row.row} | {row.name} | {faq_text(row)} | {_servers(one)} | {_marked(one, 'auth', ', '.join(one.auth))} | {one.support} |"
        )
    lines += ["", "## Other providers", "", "| Provider | Server (TLS) | Secret | Support |", "|---|---|---|---|"]
    lines += [
        f"| {one.name} | {_servers(one)} | {_marked(one, 'auth', ', '.join(one.auth))} | {one.support} |"
        for one in providers
        if not one.faq
    ]
    lines += [
        "",
        "## What is to be known of each",
        "",
        "`filed`: whether mail that a mail program sends over SMTP is kept in the Sent folder by the server. `distrust`: what the",
        "server offers and does wrong; the fetcher uses none of it. `limits`: what the provider allows or shows, and how often",
        "we log in.",
    ]
    for one in providers:
        lines += ["", f"### {one.name}", "", *_facts(one)]
    lines += [
        "",
        "## What the fetcher does for all of them",
        "",
        "| Habit | Where |",
        "|---|---|",
        "| Sent folders by `\\Sent` and by name in many languages, all of them together | `services/providers/sent_names.toml`, `imap.py` |",
        "| EXAMINE is refused unless ID was sent before (NetEase): it goes out after LOGIN wherever it is advertised | `services/imap/connection.py` |",
        "| no UIDNEXT, no UIDVALIDITY, UIDs that go back, messages that appear late | `services/mail/plan.py` |",
        "| what a refusal means: authorization code, app password, OAuth2, IMAP off, too often | `services/providers/server_texts.toml` |",
        "| what a person is told, in English and Chinese | `services/connect/texts.toml` |",
        "",
        "Limits for every server: a literal and a line 64 KiB, a session 8 MiB, 5,000 folders, 2,000 messages a poll, 20 s a",
        "command, 120 s a poll. A scan that meets one goes on in the next poll. The connection test of a mailbox may fail five",
        "times in an hour, the tests of a company thirty times.",
    ]
    return "\n".join(lines) + "\n"


def _servers(one: Provider) -> str:
    hosts = [f"`{host}`" + ("°" if catalog.doubt(one, "hosts", host) else "") for host in one.hosts]
    return _marked(one, "hosts", ", ".join(hosts) or "none")


def _marked(one: Provider, key: str, text: str) -> str:
    return f"{text}°" if key in one.unconfirmed else text


def _facts(one: Provider) -> list[str]:
    limits = {name: value for name, value in (
        ("logins an hour", one.limits.logins_per_hour), ("sessions", one.limits.sessions),
        ("days shown", one.limits.visible_days), ("messages shown", one.limits.visible_messages),
    ) if value is not None}  # fmt: skip
    facts = [
        ("address", ", ".join(one.domains)),
        ("MX", ", ".join(name + ("°" if catalog.doubt(one, "mx", name) else "") for name in one.mx)),
        ("software", one.software if one.software != "unknown" else ""),
        ("ports", f"{one.port} TLS" + (f"; {one.plain_port} plain, never used" if one.plain_port else "")),
        ("ID", _marked(one, "id_command", one.id_command)),
        ("Sent", _marked(one, "sent_folders", ", ".join(one.sent_folders)) if one.sent_folders else ""),
        ("filed", _marked(one, "files_sent", one.files_sent)),
        ("distrust", ", ".join(one.distrust)),
        (
            "limits",
            _marked(one, "limits", ", ".join(f"{name} {value:,}" for name, value in limits.items())) if limits else "",
        ),
        ("no IMAP servers", ", ".join(one.not_imap)),
    ]
    lines = [f"- **{one.support}**: {one.reason.en} {one.reason.zh}", f"- {one.advice.en} {one.advice.zh}"]
    if one.caution is not None:
        lines.append(f"- Caution: {one.caution.en} {one.caution.zh} ({one.caution.source}, {one.caution.as_of})")
    lines.append("- " + " · ".join(f"{name}: {value}" for name, value in facts if value))
    lines += [f"- {doubt.name}°: {doubt.source} ({doubt.as_of})" for doubt in one.doubts]
    lines.append(f"- Source: {one.source} ({one.as_of})")
    return lines
