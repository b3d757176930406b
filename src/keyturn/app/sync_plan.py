"""What is to be done for a secret to be in another store as it is in this one: pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from keyturn.core.ids import SecretName
from keyturn.core.model import History, Move, SecretState
from keyturn.core.ports import Drift

__all__ = ["Facts", "Planned", "Way", "is_drifted", "judge", "renewed"]


class Way(StrEnum):
    """What is done."""

    COPY = "copy with history"
    APPEND = "append versions"
    RENEW = "new version"
    SAME = "same"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Planned:
    """
    What is to be done for one secret.

    Args:
        versions: How many are written.
        why: What is in the way, or what is particular.
        move: What the other store is asked; None where it is not asked anything.
        drift: What others did there, to be settled first.
        seen: The state at the source.
    """

    name: SecretName
    way: Way
    versions: int = 0
    why: str = ""
    move: Move | None = field(default=None, repr=False)
    drift: Drift | None = None
    seen: SecretState | None = None

    @property
    def is_work(self) -> bool:
        """Whether something is to be done."""
        return self.way in {Way.COPY, Way.APPEND, Way.RENEW}


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What is known beside the histories.

    Args:
        source: The name of the store that is read, for messages.
        target: The name of the one that is written.
        in_rotation: A rotation of the secret is open.
        drift: What others did at the target.
        overwrite: What is newer or drifted at the target gives way.
    """

    source: str
    target: str
    in_rotation: bool = False
    drift: Drift | None = None
    overwrite: bool = False


def judge(mine: History, theirs: History | None, facts: Facts) -> Planned:
    """Return what is to be done so that the target has what the source has, *mine*."""
    name = mine.ref.name
    held = theirs or History(SecretState(mine.ref, None, None, None, 1), ())
    why = _in_the_way(mine, held, facts)
    if why:
        return Planned(name, Way.CONFLICT, why=why)
    if facts.drift is not None:
        told = f"{facts.target}: the live value was {facts.drift.kind}, and not by Keyturn"
        planned = Planned(name, Way.RENEW, 1, why=told, drift=facts.drift)
    else:
        told = _newer(mine, held, facts)
        planned = _moved(mine, held, facts)
    if told and planned.is_work and not facts.overwrite:
        return Planned(name, Way.CONFLICT, why=told)
    return replace(planned, why=told or planned.why, seen=mine.state)


def _moved(mine: History, held: History, facts: Facts) -> Planned:
    name, wanted = mine.ref.name, mine.state
    if held.state.next_number <= wanted.next_number and not _diverged(mine, held):
        if held.state == wanted:
            return Planned(name, Way.SAME)
        rest = [each for each in mine.versions if each[0].number >= held.state.next_number]
        way = Way.APPEND if held.versions else Way.COPY
        count = sum(values is not None for _, values in rest)
        return Planned(name, way, count, move=Move(mine, held.state))
    own = f"{facts.target} keeps its own versions"
    if mine.values(wanted.current) == held.values(held.state.current):
        return Planned(name, Way.SAME, why=own)
    return Planned(name, Way.RENEW, 1, why=own, move=Move(renewed(mine, held), held.state))


def _in_the_way(mine: History, held: History, facts: Facts) -> str:
    if facts.in_rotation:
        return "a rotation is under way: finish it first"
    for where, state in ((facts.source, mine.state), (facts.target, held.state)):
        if state.pending is not None:
            return f"{where}: version {state.pending} is pending: finish or discard it first"
    if is_drifted(mine):
        return f"{facts.source}: the live value was changed, and not by Keyturn"
    if mine.state.current is None and held.state.current is not None:
        return f"{facts.source} has no current version"
    return ""


def is_drifted(history: History) -> bool:
    """Tell whether what is live is not the version that is current."""
    return any(version.drifted for version, _ in history.versions)


def _newer(mine: History, held: History, facts: Facts) -> str:
    """Return in words that the target's current version is the newer one; empty where not."""
    here, there = mine.version(mine.state.current), held.version(held.state.current)
    if here is None or there is None or there.created_at <= here.created_at:
        return ""
    if mine.values(here.number) == held.values(there.number):
        return ""
    return f"{facts.target}: version {there.number} is newer than version {here.number}"


def _diverged(mine: History, held: History) -> bool:
    for version, values in held.versions:
        own = mine.values(version.number)
        if values is not None and own is not None and dict(own) != dict(values):
            return True
    return False


def renewed(mine: History, held: History) -> History:
    """Return *held* with the current version of *mine* as its own next one, and current."""
    version, values = mine.version(mine.state.current), mine.values(mine.state.current)
    if version is None:
        return held
    state, number = held.state, held.state.next_number
    versions = held.versions
    if number - 1 != state.current and held.values(number - 1) == values:
        # Whoever wrote it here died before it was current.
        number -= 1
    else:
        versions = (*versions, (replace(version, number=number, drifted=False), values))
    after = replace(state, current=number, previous=state.current, next_number=number + 1)
    return History(after, versions)
