"""Sealed values open only with their key and at their place."""

from typing import get_args

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import ConfigError
from services.registry.vault import Field, Vault, WrongContext, masked

VAULT = Vault(bytes(32))
FIELDS: tuple[Field, ...] = get_args(Field)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_what_was_sealed_opens_again_and_never_looks_the_same(value: str) -> None:
    first, second = (VAULT.seal(value, "c", "m", "host", "993", field="user") for _ in range(2))
    assert first != second
    assert VAULT.open(first, "c", "m", "host", "993", field="user") == value
    assert len(value) < 4 or value.encode() not in first


@pytest.mark.parametrize(
    "place", [("c2", "m", "host"), ("c", "m2", "host"), ("c", "m", "other"), ("c", "m"), ("c", "m", "host", "x")]
)
def test_a_value_that_was_moved_does_not_open(place: tuple[str, ...]) -> None:
    with pytest.raises(WrongContext, match="connect the mailbox again"):
        VAULT.open(VAULT.seal("secret", "c", "m", "host", field="secret"), *place, field="secret")


def test_another_key_is_named() -> None:
    with pytest.raises(ConfigError, match="VAULT_KEY_FILE"):
        Vault(b"x" * 32).open(VAULT.seal("secret", "c", field="secret"), "c", field="secret")


def test_every_changed_byte_is_noticed() -> None:
    sealed = VAULT.seal("secret", "c", field="secret")
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises((ConfigError, WrongContext)):
            VAULT.open(changed, "c", field="secret")


def first_version(vault: Vault, value: str, *place: str, key: bytes = bytes(32)) -> bytes:
    """A value as earlier releases sealed it: the field was the last part, in the place of a secret's user name."""
    key_id = bytes.fromhex(vault.key_id)
    associated = "\x1f".join((*place, vault.key_id)).encode()
    data_key, nonce = AESGCM.generate_key(256), bytes(12)
    wrapped = AESGCM(key).encrypt(nonce, data_key, associated)
    return b"\x01" + key_id + nonce + wrapped + nonce + AESGCM(data_key).encrypt(nonce, value.encode(), associated)


@pytest.mark.parametrize("user", ["user", "address", "secret"])
def test_a_password_opens_as_no_other_field_whatever_the_user_name(user: str) -> None:
    place = ("c", "m", "host", "993")
    sealed = VAULT.seal("password", *place, user, field="secret")
    assert VAULT.open(sealed, *place, user, field="secret") == "password"
    for field in FIELDS:
        for parts in (place, (*place, user), (*place, user, field)):
            if (field, parts) != ("secret", (*place, user)):
                with pytest.raises(WrongContext):
                    VAULT.open(sealed, *parts, field=field)


def test_parts_with_separators_are_not_confused() -> None:
    sealed = VAULT.seal("password", "c", "m", "x\x1foauth2", field="secret")
    with pytest.raises(WrongContext):
        VAULT.open(sealed, "c", "m", "x", "oauth2", field="secret")


def test_values_of_the_first_version_open_and_are_not_current() -> None:
    place = ("c", "m", "host", "993")
    user = first_version(VAULT, "me", *place, "user")
    assert VAULT.open(user, *place, field="user") == "me" and not VAULT.is_current(user)
    assert VAULT.open(first_version(VAULT, "p", *place, "me"), *place, "me", field="secret") == "p"
    assert (
        VAULT.open(first_version(VAULT, "a@b", "c", "a", "backup"), "c", "a", "backup", field="account-address")
        == "a@b"
    )
    with pytest.raises(WrongContext):
        VAULT.open(b"\x02" + user[1:], *place, field="user")
    assert VAULT.is_current(VAULT.seal("me", *place, field="user"))


def test_masks_show_the_domain_and_one_letter() -> None:
    assert masked("zhang@163.com") == "z***@163.com"
    assert masked("nothing") == "***"
