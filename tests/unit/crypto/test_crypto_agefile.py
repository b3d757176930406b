"""Age files in armor, for several readers."""

from __future__ import annotations

import pytest

from keyturn.core.value import SecretValue
from keyturn.crypto import new_identity, recipient
from keyturn.crypto.agefile import (
    is_recipient,
    open_text,
    parse_identities,
    recipients_of,
    seal_text,
)
from keyturn.errors import Corrupt, Sealed, UsageError


def test_each_recipient_opens_it():
    """Any one of their identities will do, among others."""
    people = [new_identity() for _ in range(3)]
    sealed = seal_text(SecretValue(b"fake"), recipients_of(people[:2]))
    assert sealed.startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    for person in people[:2]:
        assert open_text(sealed, [people[2], person], what="it").reveal() == b"fake"


def test_others_are_told_apart_from_damage():
    """Whoever it is not for learns that; whoever it is for learns that it was changed."""
    mine, other = new_identity(), new_identity()
    sealed = seal_text(SecretValue(b"fake"), [recipient(mine)])
    with pytest.raises(Sealed, match="it is not for any"):
        open_text(sealed, [other], what="it")
    with pytest.raises(Sealed):
        open_text(sealed, [], what="it")
    body = sealed.index("\n") + 1
    for text in (sealed[:-60], "", "x", "\udcff", "\0", sealed[:body] + sealed[body + 64 :]):
        with pytest.raises(Corrupt) as caught:
            open_text(text, [mine], what="it")
        assert caught.value.__cause__ is None


def test_every_character_counts():
    """No character of the armor can change to another letter unseen."""
    mine = new_identity()
    sealed = seal_text(SecretValue(b"fake content"), [recipient(mine)])
    for index in range(40, len(sealed) - 40, 3):
        if sealed[index].isalnum():
            changed = sealed[:index] + ("A" if sealed[index] != "A" else "B") + sealed[index + 1 :]
            with pytest.raises((Corrupt, Sealed)):
                open_text(changed, [mine], what="it")


def test_faulty_recipients_are_refused():
    """Nothing is sealed for nobody, or for fewer than were named."""
    good = recipient(new_identity())
    assert is_recipient(good)
    for bad in ("", "age1", good[:-1], good[:-1] + "b", f"{good} ", "age1pq1x", "ssh-ed25519"):
        with pytest.raises(UsageError):
            seal_text(SecretValue(b"fake"), [good, bad])
    with pytest.raises(UsageError):
        seal_text(SecretValue(b"fake"), [])


def test_identity_files_are_parsed():
    """Comments, blank lines, plug-ins and line ends of Windows; damage is told, unquoted."""
    mine = new_identity()
    line = mine.reveal()
    file = b"# created\r\n\r\n" + line + b"\r\nAGE-PLUGIN-X-1QQ\n  " + line + b"\n"
    assert parse_identities(SecretValue(file)) == [mine, mine]
    assert parse_identities(SecretValue(b"\xff\0")) == []
    wrong = line[:-1] + (b"Q" if line[-1:] != b"Q" else b"P")
    with pytest.raises(Corrupt) as caught:
        parse_identities(SecretValue(wrong))
    assert wrong.decode() not in str(caught.value)
