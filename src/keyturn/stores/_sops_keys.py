"""Who can open the files of a SOPS store: age identities here, age recipients there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.crypto.agefile import open_text, parse_identities, recipients_of, seal_text
from keyturn.errors import Corrupt, KeyturnError, Rejected, Sealed, Unavailable
from keyturn.stores._sops_metadata import Stanza, others_of, stanzas

__all__ = ["AgeKeys", "DataKey", "conflicted", "identity_files"]

_KEY_BYTES = 32
_MAX_BYTES = 1024 * 1024
_VARIABLE = "SOPS_AGE_KEY_FILE"


def identity_files(stated: Path | None, environment: Mapping[str, str]) -> list[Path]:
    """
    Return where age identities are looked for.

    Args:
        stated: The one that the manifest names; no other counts then.
        environment: The process's; the rest is where SOPS looks too.
    """
    if stated is not None:
        return [stated]
    named, home = environment.get(_VARIABLE), environment.get("HOME")
    config = environment.get("XDG_CONFIG_HOME") or (home and f"{home}/.config")
    usual = config and f"{config}/sops/age/keys.txt"
    return [Path(path) for path in (named, usual) if path]


def conflicted(data: bytes, file: object) -> None:
    """
    Refuse a file in which a merge of git left its marks.

    Raises:
        Corrupt: It has such marks.
    """
    lines = data.splitlines()
    if any(line.startswith((b"<<<<<<< ", b">>>>>>> ")) for line in lines):
        raise Corrupt(
            f"`{file}` holds both sides of a merge that is not finished",
            hint=f"take one side whole, such as `git checkout --theirs {file}`, "
            "then set anew what the other one changed",
            code="store.merge",
        )


@dataclass(frozen=True, slots=True)
class DataKey:
    """
    The key of one file, and for whom it is sealed.

    Args:
        metadata: What the file says of itself; the age entries are up to date.
        renewed: It is a new one: everything must be sealed with it.
    """

    value: SecretValue
    metadata: Mapping[str, Any]
    changed: bool = False
    renewed: bool = False


class AgeKeys:
    """
    The identities here, and the recipients that the manifest names.

    Args:
        files: Where identities may lie; they are read once, so that a pipe will do.
    """

    def __init__(
        self, recipients: Sequence[str], files: Sequence[Path], *, entropy: Entropy
    ) -> None:
        self._recipients = list(dict.fromkeys(recipients))
        self._files = files
        self._entropy = entropy
        self._identities: list[SecretValue] | None = None

    def open(self, sealed: str, *, what: str) -> SecretValue:
        """
        Return what was sealed for one of the identities here.

        Raises:
            Sealed: There is none, or it is for none of them.
            Corrupt: It was changed.
        """
        identities = self._load()
        try:
            return open_text(sealed, identities, what=what)
        except Sealed as error:
            raise Sealed(error.message, hint=self._ask()) from None
        except Corrupt as error:
            hint = "restore it from version control or a backup; nothing was changed"
            raise Corrupt(error.message, hint=hint) from None

    def seal(self, data: SecretValue) -> str:
        """
        Return *data* sealed for the recipients.

        Raises:
            Rejected: What is sealed so could not be opened here again.
        """
        self._require_own()
        return seal_text(data, self._recipients)

    def new_key(self) -> DataKey:
        """Return a key for a file that is not there yet."""
        self._require_own()
        return self._renewed({})

    def data_key(self, metadata: Mapping[str, Any], *, file: str) -> DataKey:
        """
        Return the key that *file* is sealed with.

        Raises:
            Sealed: None of the identities here opens it.
            Corrupt: It is damaged.
        """
        found = stanzas(metadata, file=file)
        if not found:
            others = ", ".join(others_of(metadata, found)) or "nothing"
            raise Sealed(
                f"`{file}` is sealed with {others}, and for no age recipient",
                hint="add one with `sops rotate --add-age`",
            )
        identities = self._load()
        what = f"the key of `{file}`"
        refusal: KeyturnError | None = None
        for stanza in found:
            try:
                key = open_text(stanza.sealed, identities, what=what)
            except (Sealed, Corrupt) as error:
                # One that is damaged tells more than one that is for somebody else.
                refusal = error if refusal is None or isinstance(error, Corrupt) else refusal
                continue
            if key.size_bytes != _KEY_BYTES:
                raise Corrupt(f"{what} is not one of AES-256")
            return DataKey(key, metadata)
        if isinstance(refusal, Corrupt):
            raise refusal
        raise Sealed(f"no age identity here opens `{file}`", hint=self._ask())

    def updated(self, key: DataKey, *, file: str) -> DataKey:
        """
        Return *key* for the recipients that the manifest names; a new one where one left.

        Raises:
            Rejected: A recipient left, and others than age recipients would be shut out.
        """
        self._require_own()
        found = stanzas(key.metadata, file=file)
        held = [stanza.recipient for stanza in found if stanza.is_ours]
        gone = [recipient for recipient in held if recipient not in self._recipients]
        missing = [recipient for recipient in self._recipients if recipient not in held]
        if gone:
            others = others_of(key.metadata, found)
            if others:
                raise Rejected(
                    f"`{gone[0]}` is no longer a recipient, so `{file}` needs a new key, which "
                    f"Keyturn cannot seal for {', '.join(others)}",
                    hint=f"`sops rotate -i --rm-age {gone[0]} {file}`",
                    code="store.recipients",
                )
            return self._renewed(key.metadata)
        if not missing:
            return key
        found += self._stanzas(key.value, missing)
        return DataKey(key.value, {**key.metadata, "age": _entries(found)}, changed=True)

    def _renewed(self, metadata: Mapping[str, Any]) -> DataKey:
        value = SecretValue(self._entropy.random_bytes(_KEY_BYTES))
        entries = _entries(self._stanzas(value, self._recipients))
        return DataKey(value, {**metadata, "age": entries}, changed=True, renewed=True)

    def _stanzas(self, key: SecretValue, recipients: Sequence[str]) -> list[Stanza]:
        return [Stanza(recipient, seal_text(key, [recipient])) for recipient in recipients]

    def _require_own(self) -> None:
        own = recipients_of(self._load())
        if not set(own) & set(self._recipients):
            raise Rejected(
                "no age identity here is among the store's `recipients`: "
                "what is written could not be read again",
                hint=f"add `{own[0]}` to `recipients` in keyturn.toml, if it is to be one",
                code="store.recipients",
            )

    def _load(self) -> list[SecretValue]:
        if self._identities is None:
            texts = [_read(file) for file in self._files]
            found = [identity for text in texts if text for identity in parse_identities(text)]
            if not found:
                raise Sealed(
                    f"there is no age identity in {self._places()}",
                    hint=f"`age-keygen -o FILE` makes one; name it by `identity_file`, {_VARIABLE}",
                )
            self._identities = found
        return self._identities

    def _ask(self) -> str:
        return f"let somebody who can add yours to `recipients`; looked in {self._places()}"

    def _places(self) -> str:
        return " or ".join(f"`{file}`" for file in self._files) or f"{_VARIABLE} or HOME"


def _entries(found: Sequence[Stanza]) -> list[dict[str, str]]:
    return [{"recipient": stanza.recipient, "enc": stanza.sealed} for stanza in found]


def _read(file: Path) -> SecretValue | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            return SecretValue(opened.read(_MAX_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(
            f"the age identity `{file}` cannot be read: {error.strerror}",
            hint="check the file's permissions",
        ) from error
