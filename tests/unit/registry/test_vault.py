"""Sealed values open only with their key and at their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ConfigError
from services.registry.vault import Vault, WrongContext, masked

VAULT = Vault(bytes(32))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_what_was_sealed_opens_again_and_never_looks_the_same(value: str) -> None:
    first, second = (VAULT.seal(value, "c", "m", "host", "993", "user") for _ in range(2))
    assert first != second
    assert VAULT.open(first, "c", "m", "host", "993", "user") == value
    assert len(value) < 4 or value.encode() not in first


@pytest.mark.parametrize(
    "place", [("c2", "m", "host"), ("c", "m2", "host"), ("c", "m", "other"), ("c", "m"), ("c", "m", "host", "x")]
)
def test_a_value_that_was_moved_does_not_open(place: tuple[str, ...]) -> None:
    with pytest.raises(WrongContext, match="connect the mailbox again"):
        VAULT.open(VAULT.seal("secret", "c", "m", "host"), *place)


def test_another_key_is_named() -> None:
    with pytest.raises(ConfigError, match="VAULT_KEY_FILE"):
        Vault(b"x" * 32).open(VAULT.seal("secret", "c"), "c")


def test_every_changed_byte_is_noticed() -> None:
    sealed = VAULT.seal("secret", "c")
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises((ConfigError, WrongContext)):
            VAULT.open(changed, "c")


def test_masks_show_the_domain_and_one_letter() -> None:
    assert masked("zhang@163.com") == "z***@163.com"
    assert masked("nothing") == "***"
