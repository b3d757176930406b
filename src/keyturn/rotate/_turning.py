"""What a person may do about an open rotation, and what is said where they may not."""

from __future__ import annotations

from keyturn.core.ids import Token
from keyturn.core.model import SecretRef
from keyturn.core.ports import RotationKind, Store
from keyturn.errors import Conflict, RotationFailed
from keyturn.rotate._report import GIVEN_UP
from keyturn.rotate._rows import Rotation
from keyturn.rotate.saga import Plan, Step

__all__ = [
    "TURNED_BACK",
    "given_up",
    "no_return",
    "require_in_use",
    "require_same_overlap",
    "turned_back",
]

TURNED_BACK = "rotation.turned-back"


def turned_back() -> RotationFailed:
    """Return what the journal says of a rotation that a person turned back."""
    return RotationFailed("it was turned back by a person", code=TURNED_BACK)


def no_return(rotation: Rotation) -> Conflict:
    """Return the error for a rotation that has no way back any more."""
    name, where = rotation.ref.name, rotation.ref.environment
    resume = f"`keyturn rotate --resume {name} -e {where}`"
    old = rotation.plan.old_version
    if old is None:
        why, hint = "there is no version before it", f"{resume} goes on with it"
    elif not rotation.plan.reversible:
        why = "the new value ended the old one when it was made"
        hint = f"{resume} goes on with it; then a new rotation makes another one"
    else:
        why = f"version {old} may have been ended already"
        hint = (
            f"{resume} goes on with it; where you know that version {old} still works:"
            f" `keyturn rotate {name} -e {where} --give-up`, then"
            f" `keyturn rollback {name} -e {where} --to {old}`"
        )
    return Conflict(
        f"the rotation of `{name}` is at step `{rotation.step}` and cannot be turned back: {why}",
        hint=hint,
        code="rotation.no-return",
        context={"rotation": rotation.id, "step": rotation.step.value},
    )


def require_in_use(rotation: Rotation, store: Store) -> None:
    """
    Return where no later phase than the recorded one is in use.

    Raises:
        Conflict: One is: it died between the store's write and its record.
    """
    if rotation.step is not Step.ADVANCE:
        return
    stored = store.find(rotation.ref, Token(f"{rotation.id}.{rotation.phase + 1}"))
    if stored is not None and store.state(rotation.ref).current == stored.number:
        name, where = rotation.ref.name, rotation.ref.environment
        raise Conflict(
            f"the rotation of `{name}` was interrupted while its next phase began",
            hint=f"`keyturn rotate --resume {name} -e {where}` settles that; then turn it back",
            code="rotation.between-phases",
            context={"rotation": rotation.id},
        )


def given_up(rotation: Rotation) -> RotationFailed:
    """Return what the journal says of a rotation that a person gave up."""
    text = f"given up at `{rotation.step}`: the target may still accept the other credential"
    if rotation.error is not None:
        text += f"; its last failure: {rotation.error}"
    return RotationFailed(
        text, hint="look at what the target accepts; a new rotation may begin", code=GIVEN_UP
    )


def require_same_overlap(plan: Plan, kind: RotationKind, ref: SecretRef) -> None:
    """
    Return where *kind* goes on as *plan* was made.

    Raises:
        Conflict: The manifest says another strategy since.
    """
    if (plan.overlaps, plan.reversible) != (kind.overlaps, kind.reversible):
        raise Conflict(
            f"the rotation of `{ref.name}` was planned as `{plan.strategy}`, which the manifest"
            " no longer says",
            hint=f'set strategy = "{plan.strategy}" until the rotation has ended',
            code="rotation.strategy",
        )
