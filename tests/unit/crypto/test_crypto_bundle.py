"""The sealed bundle."""

from __future__ import annotations

import pytest

from keyturn.core.value import SecretValue
from keyturn.crypto import new_identity, open_bundle, recipient, seal_bundle
from keyturn.errors import Corrupt, UsageError


def test_a_flipped_byte_is_refused_everywhere():
    """No byte of a bundle can change unseen."""
    identity = new_identity()
    sealed = seal_bundle(SecretValue(b"fake content"), [recipient(identity)])
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(Corrupt):
            open_bundle(bytes(changed), identity)
    for length in range(0, len(sealed), 7):
        with pytest.raises(Corrupt):
            open_bundle(sealed[:length], identity)


def test_another_identity_is_refused():
    """A bundle is for its recipients."""
    sealed = seal_bundle(SecretValue(b"fake"), [recipient(new_identity())])
    with pytest.raises(Corrupt) as caught:
        open_bundle(sealed, new_identity())
    assert caught.value.hint


def test_what_is_no_identity_is_refused_unquoted():
    """The error does not show what stood in the key file."""
    for text in ("", "AGE-SECRET-KEY-1NONSENSE", "pa55word", "\udcff"):
        with pytest.raises(Corrupt) as caught:
            recipient(SecretValue.from_text(text))
        assert not text or text not in str(caught.value)
        assert caught.value.__cause__ is None


def test_what_is_no_recipient_is_refused():
    """At least one, and each in age's form."""
    for recipients in ([], ["nonsense"]):
        with pytest.raises(UsageError):
            seal_bundle(SecretValue(b"fake"), recipients)


def test_every_recipient_opens_it():
    """A bundle may have several readers."""
    first, second = new_identity(), new_identity()
    sealed = seal_bundle(SecretValue(b"\0fake\n"), [recipient(first), recipient(second)])
    assert sealed.startswith(b"age-encryption.org/v1\n")
    for identity in (first, second):
        assert open_bundle(sealed, identity) == SecretValue(b"\0fake\n")


def test_identities_are_fresh_and_in_age_form():
    """Two are never the same, and plain age reads them."""
    assert new_identity() != new_identity()
    assert new_identity().reveal_text().startswith("AGE-SECRET-KEY-1")
    assert recipient(new_identity()).startswith("age1")
