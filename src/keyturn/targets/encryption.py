"""
Keys that encrypt stored data.

The old key is needed as long as anything is encrypted with it, so a rotation re-encrypts
what is stored, by a program of the team's, before the old key goes:

    phase 0   ring = old,new; the old key encrypts. Every process can decrypt with both
    phase 1   ring = new,old; the new key encrypts. What is stored is re-encrypted
    phase 2   ring = new

Phase 2 is not reached while the program counts a row on an old key. Each phase can go
back to the one before it, which reads everything that was written meanwhile. Without
the ring or the program nothing is rotated: stored data could not be read any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from keyturn.core.entropy import Entropy
from keyturn.core.ids import FieldName, Token
from keyturn.core.model import SecretRef, Values
from keyturn.core.ports import Evidence, KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.crypto.ring import Entry, key_id, parse_ring, require_usable, write_ring
from keyturn.errors import InternalError, NotYet, Unavailable, UsageError, VerificationFailed
from keyturn.targets._command_programs import Programs
from keyturn.targets._encryption_rewrap import Rewrap
from keyturn.targets._learnt_first import LAST_PHASE, LearntFirst
from keyturn.targets._target_table import duration_seconds, words

__all__ = ["EncryptionKey", "build"]

_VALUE = FieldName("value")
_RING = FieldName("ring")
# In no manifest: it names the rotation to the program in later phases.
_TOKEN = FieldName("rewrap_token")
_TIMEOUT_SECONDS = 60
_AGAIN_SECONDS = 60


class EncryptionKey(LearntFirst):
    """A key in a ring, and what re-encrypts stored data."""

    def __init__(
        self, rewrap: Rewrap, *, ref: SecretRef, make: Callable[[], Values], entropy: Entropy
    ) -> None:
        self._rewrap = rewrap
        self._ref = ref
        self._make = make
        self._entropy = entropy

    def describe(self, current: Values | None) -> Sequence[tuple[str, str]]:
        """Return what a rotation will do."""
        if current is None:
            return [("create", "a new key, alone in its ring"), ("check", "encrypt a sample")]
        old, hook = _entries(current)[0], self._rewrap.name
        then = f"`{hook}` re-encrypts what is stored, and at zero rows the old key leaves the ring"
        return [
            ("create", f"a new key, second in the ring: `{old.id}` goes on encrypting"),
            ("check", "encrypt and decrypt a sample with every key of the ring"),
            ("advance", "the new key encrypts; the old one stays in the ring"),
            ("advance", then),
            ("retire", f"`{hook}` once more, for rows written meanwhile"),
            ("prove", f"`{hook}` counts no row of `{old.id}`"),
        ]

    def create(self, current: Values | None, *, token: Token) -> Values:
        """
        Return the ring in which the new key is the second.

        Raises:
            VerificationFailed: The present ring cannot be read.
        """
        made = self._make()[_VALUE]
        if current is None:
            return _version([Entry(key_id(made), made)], token)
        old, *others = _entries(current)
        new = Entry(key_id(made), made)
        if new.id in {entry.id for entry in (old, *others)}:
            raise Unavailable("the new key has the id of a present one", hint="try again")
        return _version([old, new, *others], token)

    def check(self, current: Values | None, pending: Values) -> Evidence:
        """
        Encrypt and decrypt a sample with every key of the ring.

        Raises:
            VerificationFailed: One is no key, or a key of the present ring is lacking.
        """
        if current is not None:
            old, new = _entries(current), _entries(pending)
            if old[0] != new[0] or any(entry not in new for entry in old):
                raise VerificationFailed("the new ring does not have the keys of the present one")
        return self.probe(pending)

    def advance(self, current: Values, phase: int) -> Values:
        """
        Return the ring in which the new key encrypts, or is alone.

        Raises:
            NotYet: Rows are left that an old key encrypts.
            VerificationFailed: *current* is of no such rotation.
        """
        entries = _entries(current)
        token = _token(current)
        if phase == 1:
            if len(entries) == 1:
                raise VerificationFailed("the ring in use has no second key")
            old, new, *others = entries
            return _version([new, old, *others], token)
        if phase != LAST_PHASE:
            raise InternalError(f"an encryption key was asked for phase {phase}")
        new, *older = entries
        self._until_done(new, older, token)
        return _version([new], token)

    def retire(self, current: Values, old: Values) -> None:
        """
        Re-encrypt what was written with an old key since it was counted.

        Raises:
            NotYet: Rows are left.
        """
        new = _entries(current)[0]
        self._until_done(new, _gone(old, current), _token(current))

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        """
        See that no old key is in the ring, and be told that no row needs one.

        Raises:
            VerificationFailed: One is, or one does.
            Unavailable: What is in use is not known.
        """
        if current is None:
            raise Unavailable(
                "the ring in use is not known, so that nothing is proven",
                code="target.unavailable",
            )
        gone = _require_absent(_entries(old), current)
        new = _entries(current)[0]
        left = self._rewrap.once(new, gone, token=_token(current))
        if left.remaining or left.done:
            raise VerificationFailed(
                f"{left.remaining + left.done} rows were still encrypted with an old key",
                hint="see that every process has the new ring; resume re-encrypts them",
                code="target.still-works",
            )
        names = " and ".join(f"`{entry.id}`" for entry in gone)
        return Evidence("no rows left", f"on {names}, which is in the ring no more")

    def probe(self, values: Values) -> Evidence:
        """
        Encrypt and decrypt a sample with every key of the ring.

        Raises:
            VerificationFailed: One of them cannot be used.
        """
        entries = _entries(values)
        for entry in entries:
            require_usable(entry, entropy=self._entropy)
        return Evidence("sample decrypted", " and ".join(f"`{entry.id}`" for entry in entries))

    def rehearsal(self) -> RotationKind | None:
        """Return the same steps; what is thrown away is the new key, and no row is touched."""
        return _Rehearsal(self._rewrap, ref=self._ref, make=self._make, entropy=self._entropy)

    def _until_done(self, new: Entry, old: Sequence[Entry], token: str) -> None:
        if not old:
            return
        found = self._rewrap.until_done(new, old, token=token)
        if found.remaining:
            raise NotYet(
                f"`{self._ref.name}` waits: {found.remaining} rows are still encrypted with an old"
                f" key; {found.done} were re-encrypted just now",
                person=False,
                again_seconds=_AGAIN_SECONDS,
                hint=f"keyturn rotate --resume {self._ref.name} -e {self._ref.environment} goes on",
            )


class _Rehearsal(EncryptionKey):
    """Ends with the new key, which has encrypted nothing."""

    def prove_dead(self, old: Values, *, current: Values | None = None) -> Evidence:
        if current is None:
            return Evidence("not in use", "there is no ring yet")
        _require_absent(_entries(old)[1:2], current)
        return Evidence("not in the ring", "the new key has encrypted nothing")


def build(context: KindContext) -> RotationKind:
    """
    Return the steps of an encryption key.

    Raises:
        UsageError: There is no ring, or no program that re-encrypts: stored data could
            not be read after a rotation.
    """
    name = context.ref.name
    command = words(context, "rewrap")
    if _RING not in context.fields or not command or not command[0]:
        lacking = "no field `ring`" if _RING not in context.fields else "no `rewrap` program"
        raise UsageError(
            f"`{name}` has {lacking}: after a rotation, what the old key encrypted could not be"
            " read",
            hint=f'write in keyturn.toml: [secrets.{name}] fields = {{ value = "ENCRYPTION_KEY",'
            f' ring = "ENCRYPTION_KEYS" }}, and [secrets.{name}.target]'
            ' rewrap = ["./tools/rewrap"]',
            code="rotation.target",
        )
    timeout = duration_seconds(context, "timeout", example="60s")
    folder = context.target.get("folder")
    programs = Programs(
        commands={"rewrap": command},
        about={
            "version": 1,
            "secret": name,
            "environment": context.ref.environment,
            "project": context.project,
        },
        admin=None,
        timeout_seconds=timeout or _TIMEOUT_SECONDS,
        folder=folder if isinstance(folder, str) else None,
        clock=context.clock,
    )
    return EncryptionKey(
        Rewrap(programs, clock=context.clock),
        ref=context.ref,
        make=context.make,
        entropy=context.entropy,
    )


def _entries(values: Values) -> list[Entry]:
    value = values.get(_VALUE)
    if not value:
        raise VerificationFailed("`value` has no value")
    if not values.get(_RING):
        # Made by hand, before there was a ring.
        return [Entry(key_id(value), value)]
    try:
        found = parse_ring(values[_RING])
    except VerificationFailed as error:
        raise VerificationFailed(f"`ring` {error.message}", hint=error.hint) from None
    if found[0].key != value:
        raise VerificationFailed(
            "`value` is not the first key of `ring`",
            hint="the first key of the ring encrypts: give both with `keyturn set`",
            code="value.form",
        )
    return found


def _version(entries: Sequence[Entry], token: str) -> Values:
    return {
        _VALUE: entries[0].key,
        _RING: write_ring(entries),
        _TOKEN: SecretValue.from_text(token),
    }


def _token(values: Values) -> str:
    held = values.get(_TOKEN)
    return "" if held is None else held.reveal_text()


def _gone(old: Values, current: Values) -> list[Entry]:
    accepted = {entry.id for entry in _entries(current)}
    return [entry for entry in _entries(old) if entry.id not in accepted]


def _require_absent(entries: Sequence[Entry], current: Values) -> list[Entry]:
    kept = _entries(current)
    for entry in entries:
        if any(entry.id == one.id or entry.key == one.key for one in kept):
            raise VerificationFailed(
                f"the old key `{entry.id}` is still in the ring",
                hint="see with `keyturn history` which version is in use",
                code="target.still-works",
            )
    return list(entries)
