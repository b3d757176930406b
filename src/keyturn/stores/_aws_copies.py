"""
A name in AWS for each field, so that an application reads the password itself.

The secret is one version with all its fields; that is what moves as one. Each field
is copied to a name of its own, `db_password` beside `db`, after the secret moved.
The copies' version ids follow from the secret's, so that a copy tells which version
it shows, and whoever died between the two is made up for by the next promote.
"""

from __future__ import annotations

import hashlib
from typing import Final

from keyturn.core.ids import FieldName
from keyturn.core.model import SecretRef
from keyturn.errors import Corrupt
from keyturn.stores._aws_record import CURRENT, PENDING, Mark, Sight, decode, encode
from keyturn.stores._aws_secrets import AwsSecrets
from keyturn.stores._place import mark_is_stale

__all__ = ["Copies"]

_PREFIX: Final = "kt1-copy-"
_ROUNDS = 8


class Copies:
    """The copies of a secret's fields, in the layout that has them."""

    def __init__(self, secrets: AwsSecrets) -> None:
        self._secrets = secrets

    def fields(self, mark: Mark) -> tuple[FieldName, ...]:
        """Return which fields of the version have a copy."""
        if self._secrets.settings.layout == "json" or mark.fields == ("value",):
            return ()
        return mark.fields

    def changed(self, ref: SecretRef, mark: Mark) -> tuple[FieldName, ...]:
        """Return the fields whose copy somebody else wrote to."""
        return tuple(
            field for field in self.fields(mark) if _foreign(self._secrets.look(ref, field))
        )

    def follow(self, ref: SecretRef, mark: Mark | None) -> None:
        """
        Bring every copy to the version that is current, which the caller saw to be *mark*.

        Raises:
            Conflict: `store.mark`: somebody else is at it.
        """
        for _ in range(_ROUNDS):
            if mark is None or not self.fields(mark):
                return
            for field in self.fields(mark):
                self._bring(ref, mark, field)
            sight = self._secrets.look(ref)
            now = None if sight is None else sight.recorded
            if now is None or now.id == mark.id:
                return
            # It moved on meanwhile, and whoever moved it may have been here before us.
            mark = now
        raise mark_is_stale(f"`{ref}`")

    def _bring(self, ref: SecretRef, mark: Mark, field: FieldName) -> None:
        sight = self._secrets.look(ref, field)
        version = _id(mark, field)
        shown = None if sight is None else _shown(sight)
        if shown == version:
            return
        values = decode(self._secrets.value_of(ref, mark.id), mark.form, mark.fields)
        if values is None:
            raise Corrupt(
                f"version {mark.number} of `{ref}` is not what was stored",
                hint="promote another version; `keyturn history` lists them",
            )
        _, content = encode(ref, {field: values[field]}, json_always=False)
        if sight is None:
            self._secrets.create(ref, field, version=version, content=content)
            return
        if version not in sight.labels:
            # That label is only what carries it here: AWS keeps no version without one.
            self._secrets.put(ref, version, content, [PENDING], field=field)
        self._secrets.move(ref, CURRENT, to=version, off=shown, field=field)


def _id(mark: Mark, field: FieldName) -> str:
    return _PREFIX + hashlib.sha256(f"{mark.id}\0{field}".encode()).hexdigest()[:40]


def _shown(sight: Sight) -> str | None:
    return sight.at(CURRENT)


def _foreign(sight: Sight | None) -> bool:
    shown = None if sight is None else _shown(sight)
    return shown is not None and not shown.startswith(_PREFIX)
