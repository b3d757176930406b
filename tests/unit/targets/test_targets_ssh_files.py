"""The text of a key file: which line is whose, and that the others stay as they are."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.errors import Rejected
from keyturn.targets._ssh_files import blob_of, line_with, with_line, without_key


def public(name):
    return "ssh-ed25519 " + base64.b64encode(f"blob-of-{name}".encode()).decode()


MINE, OTHER = public("mine"), public("other")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ('command="a \\"quoted, thing\\" b",no-pty ', " a comment with words"),
        ("restrict,pty ", ""),
        ("  \t", " x "),
        ('from="10.0.0.0/8,!10.0.0.1" ', " #not a comment"),
    ],
)
def test_a_line_is_found_by_its_key(before, after):
    """Whatever its options and its comment hold."""
    found = line_with(f"{OTHER} mine\n{before}{MINE}{after}\r\n".encode(), blob_of(MINE))
    assert before.strip().encode() == found.options and after.strip().encode() == found.comment


@pytest.mark.parametrize(
    "line",
    [
        f"# {MINE}",
        f"{OTHER} {MINE}",
        f'command="{MINE}" {OTHER}',
        f"cert-authority {MINE}",
        f'principals="a b",Cert-Authority {MINE}',
        "ssh-ed25519",
        "ssh-ed25519 !!!",
        'command="open',
        "",
    ],
)
def test_what_looks_like_it_is_not(line):
    """A comment, another's line, a CA's key, half a line: they are kept."""
    content = f"{line}\n".encode()
    assert line_with(content, blob_of(MINE)) is None
    assert content == without_key(content, blob_of(MINE))


def test_a_forced_command_that_names_an_authority_is_a_users_line():
    """The word in quotes is no option."""
    content = f'command="x,cert-authority," {MINE}\n'.encode()
    assert b"" == without_key(content, blob_of(MINE))


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_adding_and_removing_leaves_every_other_byte(first, last):
    """Whatever else is in the file; a missing last line end is all that is added."""
    before = first + b"\n" + OTHER.encode() + b"\n" + last
    if before.startswith(b"SSHKRL") or line_with(before, blob_of(MINE)):
        return
    added = with_line(before, MINE, like=line_with(before, blob_of(OTHER)))
    assert line_with(added, blob_of(MINE)) is not None
    assert added == with_line(added, MINE)
    removed = without_key(added, blob_of(MINE))
    assert removed == before or removed == before + b"\n"


def test_every_line_of_the_key_goes():
    """It may stand there twice."""
    content = f"{MINE} a\n{OTHER}\nno-pty {MINE} b".encode()
    assert f"{OTHER}\n".encode() == without_key(content, blob_of(MINE))


def test_a_binary_list_is_refused():
    """It is not changed by the line."""
    for change in (lambda text: with_line(text, MINE), lambda text: without_key(text, b"x")):
        with pytest.raises(Rejected):
            change(b"SSHKRL\n\0rest")


def test_a_public_key_is_read_from_a_line_of_known_hosts():
    """Or not at all."""
    assert blob_of(MINE) == blob_of(f"[host]:22 {MINE} comment")
    for text in ("", "ssh-ed25519", "host only", "ssh-ed25519 ==="):
        with pytest.raises(ValueError, match="no public key"):
            blob_of(text)
