"""
What each step does: its work outside, and what it writes in the journal's transaction.

Every step first asks whether it is already so. None retires or withdraws what the
store says is in use, whoever changed that meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from keyturn.core.ids import Token
from keyturn.core.model import Origin, Values
from keyturn.core.ports import Evidence, RotationKind, Store
from keyturn.errors import Conflict, InternalError
from keyturn.rotate.journal import Rotation
from keyturn.rotate.ports import DeliveryPort
from keyturn.rotate.saga import Step

__all__ = ["Effect", "Steps"]


def _write_nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Effect:
    """
    What came of a step's work, and what is still to be written.

    Args:
        notes: What was seen, a line each; never a value.
        write: Store writes that join the transaction which takes the next step.
            `create` returns the number of the version that it stored.
    """

    notes: tuple[str, ...] = ()
    write: Callable[[], int | None] = _write_nothing


_Work: TypeAlias = "Callable[[Steps, Rotation], Effect]"


class Steps:
    """The steps of one rotation, over its kind, its store and its delivery."""

    def __init__(self, kind: RotationKind, *, store: Store, delivery: DeliveryPort) -> None:
        self._kind = kind
        self._store = store
        self._delivery = delivery

    def perform(self, rotation: Rotation) -> Effect:
        """
        Do the outside work of the step that *rotation* is at.

        Raises:
            KeyturnError: It failed; its class says whether to try again.
        """
        return _WORK[rotation.step](self, rotation)

    def create(self, rotation: Rotation) -> Effect:
        values = self._kind.create(self._old(rotation), token=Token(rotation.id))
        origin = Origin.GENERATED if rotation.plan.is_birth else Origin.ROTATED

        def write() -> int:
            token = Token(rotation.id)
            stored = self._store.put_pending(rotation.ref, values, origin=origin, token=token)
            return stored.number

        return Effect(write=write)

    def apply(self, rotation: Rotation) -> Effect:
        self._kind.apply(self._old(rotation), self._new(rotation))
        return Effect()

    def check(self, rotation: Rotation) -> Effect:
        return _seen(self._kind.check(self._old(rotation), self._new(rotation)))

    def promote(self, rotation: Rotation) -> Effect:
        number, old = _new_number(rotation), rotation.plan.old_version

        def write() -> None:
            self._store.promote(rotation.ref, number, expected_current=old)

        return Effect((f"version {number} is current",), write)

    def deliver(self, rotation: Rotation) -> Effect:
        return Effect(tuple(self._delivery.deliver(rotation.ref, _new_number(rotation))))

    def grace(self, rotation: Rotation) -> Effect:
        # A rollback during the grace asks for the way back, not for a retirement.
        self._require_current(rotation, _new_number(rotation))
        return Effect()

    def advance(self, rotation: Rotation) -> Effect:
        number = _new_number(rotation)
        self._require_current(rotation, number)
        phase = rotation.phase + 1
        values = self._kind.advance(self._new(rotation), phase)
        token = Token(f"{rotation.id}.{phase}")

        def write() -> int:
            stored = self._store.put_pending(
                rotation.ref, values, origin=Origin.ROTATED, token=token
            )
            self._store.promote(rotation.ref, stored.number, expected_current=number)
            return stored.number

        return Effect((f"phase {phase + 1} of {len(rotation.plan.later_waits) + 1}",), write)

    def retire(self, rotation: Rotation) -> Effect:
        self._require_current(rotation, _new_number(rotation))
        new = self._new(rotation)
        self._kind.retire(new, self._known_old(rotation))
        # A request that was given up may have been carried out since, so that the
        # provider has a credential of ours whose value nobody has.
        self._kind.sweep(Token(rotation.id), current=new)
        return Effect()

    def prove(self, rotation: Rotation) -> Effect:
        old, current = self._known_old(rotation), self._new(rotation)
        return _seen(self._kind.prove_dead(old, current=current))

    def demote(self, rotation: Rotation) -> Effect:
        number, old = _new_number(rotation), _fallback_number(rotation)

        def write() -> None:
            if self._store.state(rotation.ref).current == number:
                self._store.promote(rotation.ref, old, expected_current=number)
            self._require_current(rotation, old)

        return Effect((f"version {old} is current again",), write)

    def restore(self, rotation: Rotation) -> Effect:
        back = _fallback_number(rotation)
        self._require_current(rotation, back)
        if rotation.phase:
            current = self._store.read(rotation.ref, back).values
            self._kind.recede(current, rotation.phase)
        else:
            self._kind.withdraw(self._old(rotation), self._new(rotation))
        return Effect()

    def redeliver(self, rotation: Rotation) -> Effect:
        back = _fallback_number(rotation)
        self._require_current(rotation, back)
        return Effect(tuple(self._delivery.deliver(rotation.ref, back)))

    def withdraw(self, rotation: Rotation) -> Effect:
        number = rotation.new_version
        if number is None:
            self._kind.clean_up(Token(rotation.id), current=self._old(rotation))
            return Effect(("nothing had been stored",))
        if self._store.state(rotation.ref).current == number:
            raise _moved(rotation, number)
        self._kind.withdraw(self._old(rotation), self._new(rotation))

        def write() -> None:
            if self._store.state(rotation.ref).pending == number:
                self._store.discard_pending(rotation.ref, number)

        return Effect(write=write)

    def _require_current(self, rotation: Rotation, number: int) -> None:
        found = self._store.state(rotation.ref).current
        if found != number:
            raise _moved(rotation, found)

    def _old(self, rotation: Rotation) -> Values | None:
        number = rotation.plan.old_version
        return None if number is None else self._store.read(rotation.ref, number).values

    def _known_old(self, rotation: Rotation) -> Values:
        return self._store.read(rotation.ref, _old_number(rotation)).values

    def _new(self, rotation: Rotation) -> Values:
        return self._store.read(rotation.ref, _new_number(rotation)).values


_WORK: Mapping[Step, _Work] = {
    Step.CREATE: Steps.create,
    Step.APPLY: Steps.apply,
    Step.CHECK: Steps.check,
    Step.PROMOTE: Steps.promote,
    Step.DELIVER: Steps.deliver,
    Step.GRACE: Steps.grace,
    Step.ADVANCE: Steps.advance,
    Step.RETIRE: Steps.retire,
    Step.PROVE: Steps.prove,
    Step.DEMOTE: Steps.demote,
    Step.RESTORE: Steps.restore,
    Step.REDELIVER: Steps.redeliver,
    Step.WITHDRAW: Steps.withdraw,
}


def _seen(evidence: Evidence) -> Effect:
    return Effect((f"{evidence.method}: {evidence.detail}",))


def _moved(rotation: Rotation, current: int | None) -> Conflict:
    name, where = rotation.ref.name, rotation.ref.environment
    return Conflict(
        f"`{name}` was changed during its rotation: version {current} is current",
        hint=f"see `keyturn history {name} -e {where}`; put the version that shall be used back,"
        f" then `keyturn rotate --resume {name} -e {where}`",
        code="rotation.moved",
        context={"rotation": rotation.id},
    )


def _new_number(rotation: Rotation) -> int:
    if rotation.new_version is None:
        raise InternalError(f"rotation `{rotation.id}` has no new version at `{rotation.step}`")
    return rotation.new_version


def _fallback_number(rotation: Rotation) -> int:
    return _old_number(rotation) if rotation.fallback is None else rotation.fallback


def _old_number(rotation: Rotation) -> int:
    if rotation.plan.old_version is None:
        raise InternalError(f"rotation `{rotation.id}` has no old version at `{rotation.step}`")
    return rotation.plan.old_version
