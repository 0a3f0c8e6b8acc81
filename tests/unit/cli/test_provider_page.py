"""The page of providers."""

from services.cli.pages import providers
from services.providers import catalog

KNOWN = catalog.load()


def test_the_page_names_every_provider_and_marks_what_is_unconfirmed() -> None:
    page = providers.page()
    for provider in KNOWN.providers:
        assert f"### {provider.name}\n" in page
    assert page.count("`imap.corpease.net`°") == 1
