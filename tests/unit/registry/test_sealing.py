"""What is sealed for the fetchers opens with their key only, and at its place only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.sealing import OpeningKeys, SealingKey
from services.registry.vault import UnknownKey, WrongContext

KEYS = OpeningKeys(bytes(32))


@given(st.binary(max_size=200), st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=3))
def test_a_value_opens_again_and_never_looks_the_same(value: bytes, place: list[str]) -> None:
    first, second = (KEYS.current.seal(value, *place) for _ in range(2))
    assert first != second
    assert KEYS.open(first, *place) == value
    assert len(value) < 4 or value not in first


@pytest.mark.parametrize("place", [("c2", "r"), ("c", "r2"), ("cr",), ("c", "", "r"), ("c",), ()])
def test_a_value_that_was_moved_does_not_open(place: tuple[str, ...]) -> None:
    with pytest.raises(WrongContext):
        KEYS.open(KEYS.current.seal(b"secret", "c", "r"), *place)


def test_every_changed_byte_and_every_length_is_noticed() -> None:
    sealed = KEYS.current.seal(b"secret", "c")
    changed = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    shortened = [sealed[:length] for length in range(len(sealed))]
    for value in [*changed, *shortened, sealed + b"\0"]:
        with pytest.raises((UnknownKey, WrongContext)):
            KEYS.open(value, "c")


def test_the_public_key_cannot_open_and_follows_from_nothing_but_the_vault_key() -> None:
    public = SealingKey(KEYS.current.public)
    assert not hasattr(public, "open")
    assert OpeningKeys(bytes(32)).current.public == public.public
    assert KEYS.open(public.seal(b"secret", "c"), "c") == b"secret"
    with pytest.raises(UnknownKey):
        OpeningKeys(b"x" * 32).open(public.seal(b"secret", "c"), "c")


def test_during_a_rotation_both_keys_open_and_the_new_one_seals() -> None:
    rotating = OpeningKeys(b"n" * 32, bytes(32))
    assert rotating.open(KEYS.current.seal(b"secret", "c"), "c") == b"secret"
    assert rotating.key_ids == (OpeningKeys(b"n" * 32).current.key_id, KEYS.current.key_id)
    assert rotating.current.key_id == OpeningKeys(b"n" * 32).current.key_id
