"""The key ladder."""

from __future__ import annotations

import copy
import pickle

import pytest

from keyturn.core.entropy import SystemEntropy
from keyturn.core.value import SecretValue
from keyturn.crypto import DataKey, KeyedDigester, RootKey, bind, new_key, subkey
from keyturn.errors import Corrupt
from keyturn.testing import SeededEntropy

ROOT = RootKey(SecretValue(bytes(range(32))), "a test")
OTHER = RootKey(SecretValue(bytes(32)), "a test")


def wrapped() -> bytes:
    key = DataKey(1, SecretValue(bytes(range(32, 64))))
    return key.wrap(ROOT, store_id="s", entropy=SeededEntropy())


def test_a_wrapped_key_opens_in_its_store_only():
    """Another root key, store or number, or a changed byte, is refused."""
    data = wrapped()
    DataKey.unwrap(1, data, ROOT, store_id="s")
    for number, blob, root, store_id in (
        (1, data, OTHER, "s"),
        (2, data, ROOT, "s"),
        (1, data, ROOT, "t"),
        (1, data[:-1] + bytes([data[-1] ^ 1]), ROOT, "s"),
        (1, b"", ROOT, "s"),
    ):
        with pytest.raises(Corrupt):
            DataKey.unwrap(number, blob, root, store_id=store_id)


def test_an_unwrapped_key_opens_what_the_key_sealed():
    """Wrapping loses nothing."""
    key = DataKey.unwrap(1, wrapped(), ROOT, store_id="s")
    again = DataKey.unwrap(1, wrapped(), ROOT, store_id="s")
    sealed = key.values.seal(SecretValue(b"x"), bind("v"), entropy=SystemEntropy())
    assert again.values.open(sealed, bind("v"), what="it") == SecretValue(b"x")


def test_a_key_has_one_purpose():
    """What seals values does not open items, and no sub key is the key."""
    key = DataKey(1, SecretValue(bytes(32)))
    sealed = key.values.seal(SecretValue(b"x"), bind("v"), entropy=SystemEntropy())
    with pytest.raises(Corrupt):
        key.items.open(sealed, bind("v"), what="it")
    names = {subkey(ROOT.value, purpose).reveal() for purpose in ("a", "b")}
    assert len(names | {ROOT.value.reveal()}) == 3


def test_a_root_key_of_another_length_is_refused():
    """A short key file cannot become a weak key."""
    with pytest.raises(Corrupt, match="a test"):
        RootKey(SecretValue(bytes(31)), "a test")


def test_the_key_id_is_stable_and_distinct():
    """It names the key and nothing else."""
    assert ROOT.id == RootKey(ROOT.value, "elsewhere").id
    assert ROOT.id != OTHER.id
    assert len(ROOT.id) == 16
    assert ROOT.id not in ROOT.value.reveal().hex()


@pytest.mark.parametrize(
    "thing", [ROOT, DataKey(7, ROOT.value), KeyedDigester(ROOT.value)], ids=repr
)
def test_keys_are_masked(thing):
    """No key is printed, and none is pickled."""
    for text in (repr(thing), str(thing), f"{thing}"):
        assert ROOT.value.reveal().hex() not in text
        assert repr(ROOT.value.reveal())[2:-1] not in text
    with pytest.raises(TypeError):
        pickle.dumps(thing)
    copy.copy(thing)


def test_a_tag_holds_for_its_message_only():
    """Every byte of message and tag counts, and so does the key."""
    key = DataKey(1, ROOT.value)
    tag = key.authenticate(b"message")
    key.check(b"message", tag, what="it")
    for index in range(len(tag)):
        changed = bytearray(tag)
        changed[index] ^= 1
        with pytest.raises(Corrupt, match="the row"):
            key.check(b"message", bytes(changed), what="the row")
    for other, message, bad in (
        (key, b"messagf", tag),
        (DataKey(2, ROOT.value), b"message", tag),
        (DataKey(1, OTHER.value), b"message", tag),
        (key, b"message", tag[:-1]),
        (key, b"message", b""),
    ):
        with pytest.raises(Corrupt):
            other.check(message, bad, what="it")


def test_a_tag_names_its_key():
    """So that rows can be told apart while the data key is changed."""
    assert DataKey.number_in(DataKey(7, ROOT.value).authenticate(b"")) == 7
    for tag in (b"", b"\x01\0\0\0\x07", b"\x02" + bytes(40)):
        assert DataKey.number_in(tag) is None


def test_digests_compare_values_under_one_key():
    """Equal values have equal digests under one key, and unrelated ones under another."""
    entropy = SystemEntropy()
    one, other = KeyedDigester(new_key(entropy)), KeyedDigester(new_key(entropy))
    assert one.digest(SecretValue(b"x")) == one.digest(SecretValue(b"x"))
    assert one.digest(SecretValue(b"x")) != one.digest(SecretValue(b"y"))
    assert one.digest(SecretValue(b"x")) != other.digest(SecretValue(b"x"))
    assert len(bytes.fromhex(one.digest(SecretValue(b"")))) == 16
