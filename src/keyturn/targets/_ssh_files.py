"""
The text of `authorized_keys` and of a list of revoked keys: found by key, changed by line.

A line is told by its key's bytes, never by its comment. Every other line, its
spaces and its line end stay byte for byte.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from keyturn.errors import Rejected

__all__ = ["FILE_REFUSED", "blob_of", "line_with", "with_line", "without_key"]

FILE_REFUSED = "target.key-file"

# A binary list of revoked keys; a line added to it would end its being one.
_KRL_MAGIC = b"SSHKRL\n\0"
_KEY_TYPE = re.compile(rb"(?:sk-)?(?:ssh|ecdsa)-[A-Za-z0-9@.-]+")
# Options have no spaces but in quotes, and a quote in quotes has a backslash before it.
_OPTIONS = re.compile(rb'(?:[^\s"]|"(?:\\"|[^"])*")+')


@dataclass(frozen=True, slots=True)
class KeyLine:
    """
    One key of the file.

    Args:
        options: What stands before the key, such as `restrict,pty`.
        comment: What stands after it.
    """

    options: bytes
    blob: bytes
    comment: bytes

    @property
    def is_authority(self) -> bool:
        """Whether it is a CA's key, which lets nobody in by itself."""
        bare = re.sub(rb'"(?:\\"|[^"])*"', b"", self.options).lower()
        return b"cert-authority" in bare.split(b",")


def blob_of(public_line: str) -> bytes:
    """
    Return the key's own bytes from a public key in text form, known_hosts' form included.

    Raises:
        ValueError: There is no key in it.
    """
    for word, following in zip(public_line.split(), public_line.split()[1:], strict=False):
        if _KEY_TYPE.fullmatch(word.encode("utf-8", "replace")):
            blob = _decoded(following.encode("utf-8", "replace"))
            if blob is not None:
                return blob
    raise ValueError("there is no public key in it")


def line_with(content: bytes, blob: bytes) -> KeyLine | None:
    """Return the first line of *content* that lets the key *blob* in."""
    for line in content.splitlines(keepends=True):
        found = _parse(line)
        if found is not None and found.blob == blob and not found.is_authority:
            return found
    return None


def with_line(
    content: bytes, public_line: str, *, like: KeyLine | None = None, comment: str = ""
) -> bytes:
    """
    Return *content* with a line for *public_line* at its end, unless it has one.

    Args:
        like: A line whose options and comment the new one gets.
        comment: Its comment where *like* has none.

    Raises:
        Rejected: *content* is a binary list.
    """
    _require_text(content)
    if line_with(content, blob_of(public_line)) is not None:
        return content
    parts = [public_line.encode("ascii"), comment.encode("ascii", "replace")]
    if like is not None:
        parts = [like.options, parts[0], like.comment or parts[1]]
    ended = content if not content or content.endswith(b"\n") else content + b"\n"
    return ended + b" ".join(filter(None, parts)) + b"\n"


def without_key(content: bytes, blob: bytes) -> bytes:
    """
    Return *content* without any line that lets the key *blob* in.

    Raises:
        Rejected: *content* is a binary list.
    """
    _require_text(content)
    kept = []
    for line in content.splitlines(keepends=True):
        found = _parse(line)
        if found is None or found.blob != blob or found.is_authority:
            kept.append(line)
    return b"".join(kept)


def _parse(line: bytes) -> KeyLine | None:
    text = line.strip()
    if not text or text.startswith(b"#"):
        return None
    options = b""
    if not _starts_with_key(text):
        match = _OPTIONS.match(text)
        if match is None:
            return None
        options, text = match[0], text[match.end() :].lstrip()
    words = text.split(None, 2)
    if len(words) < 2 or not _KEY_TYPE.fullmatch(words[0]):  # noqa: PLR2004 - type and key
        return None
    blob = _decoded(words[1])
    if blob is None:
        return None
    return KeyLine(options, blob, words[2] if len(words) > 2 else b"")  # noqa: PLR2004 - the third


def _starts_with_key(text: bytes) -> bool:
    return _KEY_TYPE.fullmatch(text.split(None, 1)[0]) is not None


def _decoded(word: bytes) -> bytes | None:
    try:
        return base64.b64decode(word, validate=True) or None
    except (binascii.Error, ValueError):
        return None


def _require_text(content: bytes) -> None:
    if content.startswith(_KRL_MAGIC):
        raise Rejected(
            "the list of revoked keys is a binary one, made by `ssh-keygen -k`",
            hint="name a text file, a public key a line, as `RevokedKeys` and in the secret's"
            " target as `revoked_keys`",
            code=FILE_REFUSED,
        )
