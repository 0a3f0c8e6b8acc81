"""How a connection test and a provider are shown: to people on standard output, exactly with `--json`.

What stands here may be shown to a seller. Lines for the operator go to standard error as log lines.
"""

import sys
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.table import Table

from services.cli.context import errors
from services.common import logs
from services.common.settings import ImapSettings, Settings
from services.connect import texts
from services.connect.connection_test import PASSED, SKIPPED, TestReport, mistyped, unsupported
from services.connect.dns_records import DnsRecords
from services.connect.lookup import look_up, mistaken
from services.connect.onboarding import MailboxRefused
from services.imap.session import resolve, tls_context
from services.providers import catalog
from services.providers.catalog import HostMistake, Language, LookupAnswer
from services.registry.registry import RegistryError

in_language = click.option(
    "--lang",
    "language",
    type=click.Choice(get_args(Language)),
    default="en",
    show_default=True,
    help="Language of texts.",
)
password_file_option = click.option(
    "--password-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the password."
)


def asked_password(password_file: Path | None) -> str:
    """The password out of a file, or typed."""
    if password_file is not None:
        try:
            return password_file.read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError):
            raise RegistryError(f"{password_file} cannot be read as UTF-8 text; write the password into it") from None
    typed: str = click.prompt("Password or authorization code", hide_input=True, err=True)
    return typed


def server_of(
    address: str, host: str | None, port: int | None, settings: ImapSettings, *, quiet: bool
) -> tuple[str, int]:
    """The server of a mailbox: typed, or found. One that is not out of the directory must be confirmed by a person.

    Rejected when a server or a port of something else was typed, or when the provider cannot be read: that is told before a
    password is asked for.
    """
    if host:
        return checked(host, port, address, settings)
    domain = catalog.domain_of(address)
    if domain is None:
        raise RegistryError("this is no e-mail address; write it as name@domain")
    answer, problems = find(domain, settings)
    for problem in problems:
        errors.print(f"warning: {problem}", style="yellow", markup=False)
    provider = answer.provider
    if provider is not None and provider.support == "unsupported":
        raise MailboxRefused(unsupported(provider))
    if not answer.servers:
        raise RegistryError(
            f"the IMAP server of {domain} is not known ({answer.evidence}); name it: --host imap.example.com"
            " (the provider's help tells it)"
        )
    name, known_port = answer.servers[0]
    how = texts.phrase(f"how-{answer.how}", "en")
    if not answer.trusted and not (
        not quiet
        and sys.stdin.isatty()
        and click.confirm(f"Is {name} the IMAP server of this mailbox? The password goes there", err=True)
    ):
        raise RegistryError(
            f"{name} may be the IMAP server of {domain} ({how}); a password goes there only when you say so:"
            f" --host {name}" + (f" --port {known_port}" if known_port != catalog.TLS_PORT else "")
        )
    if not quiet:
        errors.print(f"server {name}:{known_port} ({how})", markup=False)
    return checked(name, port or known_port, address, settings)


def checked(host: str, port: int | None, address: str, settings: ImapSettings) -> tuple[str, int]:
    """Server and port as they are meant. Rejected when they are known to be no IMAP server's."""
    known, written = catalog.load(), catalog.typed(host)
    server, number = written.host, port or written.port or catalog.TLS_PORT
    mistake = mistaken(
        known, host, number, address, settings=settings, resolve=resolve, context=tls_context(settings.ca_file)
    )
    if mistake is not None:
        raise MailboxRefused(mistyped(server, number, address, known, mistake))
    return server, number


def find(domain: str, settings: ImapSettings, *, offline: bool = False) -> tuple[LookupAnswer, list[str]]:
    """Look a domain up, with the DNS and the network of this machine."""
    return look_up(
        catalog.load(), domain, records=DnsRecords(), settings=settings, resolve=resolve,
        context=tls_context(settings.ca_file), offline=offline,
    )  # fmt: skip


def operators_log(settings: Settings) -> None:
    """Warnings of this command go to standard error as log lines, like those of the services."""
    logs.configure(settings.log.format, "warning", "cli")


def print_report(report: TestReport, language: Language) -> None:
    """A connection test for people."""
    console = Console(highlight=False)
    server = [f"{report.host}:{report.port}"] if report.host else []
    provider = [report.provider.name] if report.provider is not None else []
    console.print(", ".join(server + provider), markup=False, style="bold")
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for stage in report.stages:
        sign, style = {PASSED: ("✓", "green"), SKIPPED: ("·", "dim")}.get(stage.code, ("✗", "red"))
        seconds = "" if stage.seconds is None else f"{stage.seconds:.3f} s"
        says = texts.says(report, stage, language)
        code = "" if stage.code in (PASSED, SKIPPED) else f" [{stage.code}]"
        table.add_row(sign, texts.stage_name(stage.name, language), seconds, says + code, style=style)
    console.print(table, markup=False)
    console.print(texts.phrase("passed" if report.passed else "failed", language), style="bold")
    colon = "：" if language == "zh" else ": "
    if step := texts.next_step(report, language):
        _line(console, texts.phrase("next", language) + colon + step)
    if report.provider is not None and not report.passed:
        heading = texts.phrase("provider", language, provider=report.provider.name)
        said = [report.provider.reason] if report.provider.support == "unsupported" else []
        between = "" if language == "zh" else " "
        _line(console, heading + colon + between.join(one.text(language) for one in [*said, report.provider.advice]))
    for found in report.warnings:
        _line(console, texts.phrase("note", language) + colon + texts.warning(found, language))


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


def answer_data(
    asked: str, answer: LookupAnswer, problems: list[str], mistake: HostMistake | None = None
) -> dict[str, Any]:
    """A look-up as plain values."""
    provider = answer.provider
    return {
        "asked": asked,
        "domain": answer.domain,
        "how": answer.how,
        "evidence": answer.evidence,
        "trusted": answer.trusted,
        "servers": [{"host": host, "port": port, "security": "tls"} for host, port in answer.servers],
        "provider": None if provider is None else provider_data(provider),
        "problems": problems,
        "doubts": [
            {"key": one.key, "name": one.name, "source": one.source, "as_of": one.as_of}
            for one in catalog.doubts(answer)
        ],
        "mistake": None
        if mistake is None
        else {
            "code": mistake.code,
            "host": mistake.host,
            "text": {one: texts.mistyped(mistake, one) for one in texts.LANGUAGES},
        },
    }


def provider_data(provider: catalog.Provider) -> dict[str, Any]:
    """A provider as plain values; the keys are those of schemas/provider.schema.json."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(provider)
    return found
