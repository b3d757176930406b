"""Reading and editing a SOPS file of any form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

from keyturn.core.clock import Clock
from keyturn.core.entropy import Entropy
from keyturn.core.value import SecretValue
from keyturn.errors import Corrupt, InternalError, Rejected
from keyturn.stores._sops_keys import AgeKeys, DataKey, conflicted
from keyturn.stores._sops_rules import DEFAULT_SUFFIX, Rules
from keyturn.stores._sops_sheet import Form, Leaf, Sheet, Splice, is_plain, spliced, unwritable
from keyturn.stores._sops_values import (
    COMMENT,
    Unclear,
    binding_of,
    clear_bytes,
    open_value,
    seal_value,
)

__all__ = ["SopsText"]

# The release whose files ours were compared with.
_VERSION = "3.11.0"
# Begins the MAC of what is sealed alone, so that it is never that of all values.
_ONLY_SEALED = bytes.fromhex("8a3fd2ad54ce66527b1034f3d147be0b0b975b3bf44f72c6fdadec8176f27d69")


@dataclass(frozen=True, slots=True)
class _Value:
    """
    A value in clear.

    Args:
        kind: The type that it is sealed as; None where it lies in clear.
    """

    data: SecretValue
    kind: str | None
    is_flag: bool = False

    def shown(self) -> bytes:
        """Return it as files spell it, which for `true` is not as it is counted."""
        data = self.data.reveal()
        return data.lower() if self.is_flag else data


@dataclass(frozen=True, slots=True)
class _Opened:
    """
    A file with its values.

    Args:
        values: Where a leaf has one; by where the leaf stands.
    """

    sheet: Sheet
    key: DataKey
    rules: Rules
    values: Mapping[int, _Value] = field(repr=False)

    def live(self) -> dict[str, bytes]:
        """Return the values by key, nested ones by the whole way to them."""
        return {
            leaf.name: self.values[leaf.start].shown()
            for leaf in self.sheet.leaves
            if leaf.start in self.values
        }

    def mac(self) -> SecretValue:
        """Return the digest of the values in their order."""
        digest = hashlib.sha512(_ONLY_SEALED if self.rules.only_sealed else b"")
        for leaf in self.sheet.leaves:
            value = self.values.get(leaf.start)
            if value is not None and (value.kind is not None or not self.rules.only_sealed):
                digest.update(value.data.reveal())
        return SecretValue.from_text(digest.hexdigest().upper())


class SopsText:
    """
    Implements `LiveText`.

    Args:
        keys: Who can open the file.
    """

    def __init__(self, form: Form, *, keys: AgeKeys, clock: Clock, entropy: Entropy) -> None:
        self._form = form
        self._keys = keys
        self._clock = clock
        self._entropy = entropy

    def read(self, data: bytes, *, file: Path) -> Mapping[str, bytes]:
        """
        Return every value of the file, once its MAC was verified.

        Raises:
            Corrupt: It is not from SOPS, was changed, or holds a merge conflict.
            Rejected: It is of a kind that Keyturn cannot follow.
            Sealed: No identity here opens it.
        """
        return self._verified(data, str(file)).live()

    def edit(self, data: bytes | None, changes: Mapping[str, bytes | None], *, file: Path) -> bytes:
        """
        Return the file with *changes*, sealed for the recipients that the manifest names.

        Raises:
            Rejected: A value would lie in clear by the file's own rules, or somebody
                cannot be given the new key that it needs.
        """
        where = str(file)
        opened = self._new(where) if data is None else self._verified(data, where)
        key = self._keys.updated(opened.key, file=where)
        splices = self._resealed(opened, key, set(changes)) if key.renewed else []
        for name, value in changes.items():
            splices += self._change(opened, key, name, value)
        text = spliced(opened.sheet.text, splices)
        edited = self._stamped(self._form.encode(text), key, where)
        wanted = {**opened.live(), **changes}
        expected = {name: value for name, value in wanted.items() if value is not None}
        if self._verified(edited, where).live() != expected:
            raise InternalError("an edit of a SOPS file changed more than it was to")
        return edited

    # --- reading ------------------------------------------------------------------------

    def _verified(self, data: bytes, file: str) -> _Opened:
        """
        Return the file in clear; what its MAC does not confirm is not returned.

        Raises:
            Corrupt: It was changed by somebody without the key.
        """
        conflicted(data, file)
        sheet = self._form.parse(data, file=file)
        opened = self._opened(sheet, self._keys.data_key(sheet.metadata, file=file), file)
        if not {"lastmodified", "mac"} <= set(sheet.fields) or not sheet.metadata["mac"]:
            raise _wrong_mac(file, "has no MAC")
        # Its associated data is the time alone.
        moment = str(sheet.metadata["lastmodified"]).encode("utf-8", "surrogateescape")
        sealed, what = str(sheet.metadata["mac"]), f"the MAC of `{file}`"
        mac, _ = open_value(sealed, moment, opened.key.value, what=what)
        if mac != opened.mac():
            raise _wrong_mac(file, "was changed by something else than SOPS: its MAC is wrong")
        return opened

    def _opened(self, sheet: Sheet, key: DataKey, file: str) -> _Opened:
        rules = Rules.of(sheet.metadata, file=file)
        values = {}
        for leaf in sheet.leaves:
            found = _value(leaf, rules, key.value, file)
            if found is not None:
                values[leaf.start] = found
        return _Opened(sheet, key, rules, values)

    # --- writing ------------------------------------------------------------------------

    def _new(self, file: str) -> _Opened:
        key = self._keys.new_key()
        metadata = {
            **key.metadata,
            "lastmodified": "",
            "mac": "",
            "unencrypted_suffix": DEFAULT_SUFFIX,
            "version": _VERSION,
        }
        sheet = self._form.parse(self._form.blank(metadata), file=file)
        return self._opened(sheet, DataKey(key.value, sheet.metadata), file)

    def _change(
        self, opened: _Opened, key: DataKey, name: str, value: bytes | None
    ) -> list[Splice]:
        found = [entry for entry in opened.sheet.entries if entry.key == name]
        if value is None:
            return [self._form.remove(opened.sheet, entry) for entry in found]
        if not is_plain(name) or self._form.reserved(name):
            raise unwritable(name, "the name has a meaning in SOPS files", "give it another name")
        if not opened.rules.seals((name,)):
            raise unwritable(
                name,
                "by the file's own rules it would lie in clear",
                f"see `{opened.rules.choice}` at the end of the file",
            )
        data = SecretValue(value)
        sealed = self._seal(data, binding_of((name,)), key, "str")
        if not found:
            return [self._form.add(opened.sheet, name, sealed)]
        leaves = [entry.leaf for entry in found if entry.leaf is not None]
        if len(leaves) < len(found):
            raise unwritable(name, "it is a list or a mapping there", "give it another name")
        return [self._form.set(opened.sheet, leaf, sealed) for leaf in leaves]

    def _resealed(self, opened: _Opened, key: DataKey, changed: set[str]) -> list[Splice]:
        """Return what seals everything, but what is *changed* anyway, with a new key."""
        splices = []
        for leaf in opened.sheet.leaves:
            value = opened.values.get(leaf.start)
            if value is None or value.kind is None or not value.data or leaf.name in changed:
                continue
            sealed = self._seal(value.data, binding_of(leaf.path), key, value.kind)
            splices.append(self._form.set(opened.sheet, leaf, sealed))
        return splices + self._comments(opened, key)

    def _comments(self, opened: _Opened, key: DataKey) -> list[Splice]:
        leaves = opened.sheet.leaves
        # A comment belongs to a mapping, which the file itself does not say.
        ways = {leaf.path[:depth] for leaf in leaves for depth in range(len(leaf.path) + 1)}
        bindings = [binding_of(way) for way in sorted(ways | {()})]
        splices = []
        for found in COMMENT.finditer(opened.sheet.text):
            start, end = found.span(1)
            if any(leaf.start <= start < leaf.end for leaf in leaves):
                continue
            for binding in bindings:
                try:
                    text, kind = open_value(found[1], binding, opened.key.value, what="a comment")
                except Corrupt:
                    continue
                splices.append(Splice(start, end, self._seal(text, binding, key, kind)))
                break
        return splices

    def _seal(self, value: SecretValue, binding: bytes, key: DataKey, kind: str) -> str:
        return seal_value(value, binding, key.value, entropy=self._entropy, kind=kind)

    def _stamped(self, data: bytes, key: DataKey, file: str) -> bytes:
        """Return the edited file with the time, its MAC, and who can open it."""
        sheet = self._form.parse(data, file=file)
        moment = self._clock.now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        mac = self._opened(sheet, key, file).mac()
        stamps = {
            "lastmodified": moment,
            "mac": self._seal(mac, moment.encode("ascii"), key, "str"),
        }
        if key.changed:
            splices = self._form.describe(sheet, {**key.metadata, **stamps})
        else:
            splices = [self._form.stamp(sheet, name, text) for name, text in stamps.items()]
        return self._form.encode(spliced(sheet.text, splices))


def _value(leaf: Leaf, rules: Rules, key: SecretValue, file: str) -> _Value | None:
    """Return what *leaf* holds; None where that is nothing, or counts for nothing."""
    what = f"`{leaf.name}` in `{file}`"
    if leaf.value is None:
        return None
    if rules.seals(leaf.path):
        text = leaf.value if isinstance(leaf.value, str) else "?"
        data, kind = open_value(text, binding_of(leaf.path), key, what=what)
        return _Value(data, kind, is_flag=kind == "bool")
    if not isinstance(leaf.value, Unclear):
        clear = SecretValue(clear_bytes(leaf.value))
        return _Value(clear, None, is_flag=isinstance(leaf.value, bool))
    if rules.only_sealed:
        return None
    raise Rejected(
        f"{what} lies in clear, and Keyturn cannot tell how SOPS counts it for the MAC",
        hint="put it in quotes with `sops edit`",
        code="store.form",
    )


def _wrong_mac(file: str, why: str) -> Corrupt:
    return Corrupt(
        f"`{file}` {why}", hint=f"`git log -p {file}` shows who changed it; restore it from there"
    )
