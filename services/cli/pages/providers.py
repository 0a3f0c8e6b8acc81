"""docs/providers.md: every mail provider of services/providers/providers.toml."""

from services.cli.registry.provider import faq_text
from services.providers import catalog
from services.providers.provider import Provider

HEAD = """\
# Mail providers

Rendered by `make docs` from `services/providers/providers.toml`. The server of a mailbox is looked up in this order: the
domain of the address in this directory; its MX servers; its `_imaps._tcp` record (RFC 6186); `imap.` and `mail.` before
the domain, which are only connected to, without user name and password, and only at public addresses. A password is
sent without confirmation to servers of this directory only. `replyrate provider lookup ADDRESS` shows which server was
found and how; `mailbox add` and `mailbox test` use the look-up when no `--host` is given.

Everything was read in public sources in the month that is named; nothing was tried with a real account. Facts that no
current source confirms are marked with °. [dev/lab.md](dev/lab.md) shows the result of the connection test for each family.

## The table of the FAQ, then and now

| Row | Provider | FAQ of 2016 | Server now (TLS) | Secret | Support |
|---|---|---|---|---|---|
"""
DETAILS = """
## Details of each provider

`filed`: whether the server keeps mail that a mail program sends over SMTP in the Sent folder. `distrust`: capabilities
that the server offers but implements wrongly; the fetcher uses none of them. `limits`: what the provider allows or
shows, and how often we log in.
"""
FETCHER = """
## How the fetcher handles all of them

| Behaviour | Where |
|---|---|
| Sent folders by `\\Sent` and by name in many languages, all of them together | `services/providers/sent_names.toml`, `services/imap/folders.py` |
| EXAMINE is refused unless ID was sent before (NetEase): ID is sent after LOGIN wherever it is advertised | `services/imap/connection.py` |
| no UIDNEXT, no UIDVALIDITY, UIDs that go back, messages that appear late | `services/mail/cursors.py` |
| meaning of a refusal: authorization code, app password, OAuth2, IMAP off, too often | `services/providers/server_texts.toml` |
| messages shown to people, in English and Chinese | `services/connect/texts.toml` |

Limits for every server: a literal and a line 64 KiB, a session 8 MiB, 5,000 folders, 2,000 messages per poll, 20 s per
command, 120 s per session (`REPLYRATE_IMAP__SESSION_SECONDS`). A scan that reaches a limit continues in the next poll. The connection test of a mailbox may
fail five times in an hour, the tests of a company thirty times.
"""


def page() -> str:
    """The page: the providers of the FAQ, the others, then the details of each."""
    providers = catalog.load().providers
    by_row = sorted(
        ((faq, provider) for provider in providers for faq in provider.faq), key=lambda pair: pair[0].number
    )
    lines = [
        f"| {faq.number} | {faq.name} | {faq_text(faq)} | {_servers(provider)} | {_secret(provider)} | {provider.support} |"
        for faq, provider in by_row
    ]
    lines += ["", "## Other providers", "", "| Provider | Server (TLS) | Secret | Support |", "|---|---|---|---|"]
    lines += [
        f"| {provider.name} | {_servers(provider)} | {_secret(provider)} | {provider.support} |"
        for provider in providers
        if not provider.faq
    ]
    details = "".join("\n".join(["", f"### {provider.name}", "", *_facts(provider), ""]) for provider in providers)
    return HEAD + "\n".join(lines) + "\n" + DETAILS + details + FETCHER


def _servers(provider: Provider) -> str:
    hosts = [f"`{host}`" + ("°" if provider.unconfirmed_server("hosts", host) else "") for host in provider.hosts]
    return _marked(provider, "hosts", ", ".join(hosts) or "none")


def _secret(provider: Provider) -> str:
    return _marked(provider, "auth", ", ".join(provider.auth))


def _marked(provider: Provider, key: str, text: str) -> str:
    return f"{text}°" if key in provider.unconfirmed else text


def _facts(provider: Provider) -> list[str]:
    limits = {name: value for name, value in (
        ("logins an hour", provider.limits.logins_per_hour), ("sessions", provider.limits.sessions),
        ("days shown", provider.limits.visible_days), ("messages shown", provider.limits.visible_messages),
    ) if value is not None}  # fmt: skip
    limits_text = ", ".join(f"{name} {value:,}" for name, value in limits.items())
    facts = [
        ("address", ", ".join(provider.domains)),
        ("MX", ", ".join(name + ("°" if provider.unconfirmed_server("mx", name) else "") for name in provider.mx)),
        ("software", provider.software if provider.software != "unknown" else ""),
        (
            "ports",
            f"{provider.port} {'TLS' if provider.security == 'tls' else 'STARTTLS'}"
            + (f"; {provider.plain_port} plain, never used" if provider.plain_port not in (0, provider.port) else ""),
        ),
        ("ID", _marked(provider, "id_command", provider.id_command)),
        (
            "Sent",
            _marked(provider, "sent_folders", ", ".join(provider.sent_folders)) if provider.sent_folders else "",
        ),
        ("filed", _marked(provider, "files_sent", provider.files_sent)),
        ("distrust", ", ".join(provider.distrust)),
        ("limits", _marked(provider, "limits", limits_text) if limits else ""),
        ("no IMAP servers", ", ".join(provider.not_imap)),
    ]
    lines = [
        f"- **{provider.support}**: {provider.reason.en} {provider.reason.zh}",
        f"- {provider.advice.en} {provider.advice.zh}",
    ]
    if caution := provider.caution:
        lines.append(f"- Caution: {caution.en} {caution.zh} ({caution.source}, {caution.as_of})")
    lines.append("- " + " · ".join(f"{name}: {value}" for name, value in facts if value))
    lines += [f"- {doubt.name}°: {doubt.source} ({doubt.as_of})" for doubt in provider.doubts]
    lines.append(f"- Source: {provider.source} ({provider.as_of})")
    return lines
