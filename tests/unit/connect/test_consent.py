"""Consent texts are pinned by their hashes; a consent needs a name and the current text."""

from importlib import resources

import pytest

from services.common.errors import ConfigError
from services.connect import consent
from services.registry.errors import RegistryError

TEXT = resources.files("services.connect").joinpath("consent.toml").read_text("utf-8")


def test_a_text_that_somebody_consented_to_cannot_be_changed() -> None:
    for old, new in (("headers only", "headers alone"), ("您同意", "你同意")):
        assert old in TEXT
        with pytest.raises(
            ConfigError, match="not the one that was consented to .* add what is new as the next version"
        ):
            consent.parse(TEXT.replace(old, new), "consent.toml")
    with pytest.raises(ConfigError, match="versions are 1, 2, 3"):
        consent.parse(TEXT.replace('version = "2"', 'version = "4"'), "consent.toml")
    with pytest.raises(ConfigError, match=r"consent.schema.json explains every key"):
        consent.parse(TEXT.replace("since =", "sinse ="), "consent.toml")


def test_a_consent_names_a_person_and_the_current_text() -> None:
    current = consent.load().current
    given = consent.give(" Li ", "zh")
    assert (given.by, given.text_version, given.language) == ("Li", current.version, "zh")
    with pytest.raises(RegistryError, match="nobody consented") as nameless:
        consent.give(" ", "en")
    assert nameless.value.remedy == "consent-give"
    with pytest.raises(RegistryError, match=f"consent text 1 is not the current one, which is {current.version}"):
        consent.give("Li", "en", "1")
    with pytest.raises(RegistryError, match="not an address"):
        consent.give("li@mail.test", "en")


def test_every_text_that_was_ever_shown_is_still_provable_by_its_hash() -> None:
    shown = {text.version: text.sha256 for text in consent.load().versions}
    assert shown == {
        "1": "61589df21615d4bc106ef6d21b33217338bfd6fa772442248b99e80b72fb925d",
        "2": "b0222e4f312c84b55ab6b48ceff79412e5a3e609ff544c3b70980933b3f18fc6",
        "3": "30c780f9573fef82225bf5e2453a748f65b91feeb235cdfd5f08b47ae308664c",
    }
