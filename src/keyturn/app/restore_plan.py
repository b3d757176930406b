"""What is to be done for a store to have what a backup has: pure."""

from __future__ import annotations

from dataclasses import replace

from keyturn.app.sync_plan import Facts, Planned, Way, judge, renewed
from keyturn.core.model import History, Move

__all__ = ["judge_restored", "settled", "was_written"]


def settled(history: History) -> History:
    """
    Return *history* with nothing pending.

    A pending version belongs to a rotation that is not in the backup. It comes back as
    one that no stage points at.
    """
    return replace(history, state=replace(history.state, pending=None))


def judge_restored(mine: History, theirs: History | None, facts: Facts) -> Planned:
    """
    Return what is to be done for the store to have *mine*, which is from a backup.

    Nothing that is there gives way, unless it is asked for: what is newer is left, and
    another value in the same place is a conflict.

    Args:
        theirs: What the store has; None where it has nothing.
        facts: With `overwrite` where the person named the secret.
    """
    mine, name = settled(mine), mine.ref.name
    if facts.drift is not None:
        what = f"the live value was {facts.drift.kind}, and not by Keyturn: see `keyturn drift`"
        return Planned(name, Way.CONFLICT, why=f"{facts.target}: {what}")
    if theirs is not None and not facts.overwrite and _lacks_nothing(mine, theirs):
        return Planned(name, Way.SAME, why=_newer(mine, theirs, facts))
    planned = judge(mine, theirs, replace(facts, overwrite=True))
    if theirs is not None and planned.move is not None:
        planned = _around_destroyed(mine, theirs, planned)
    if theirs is None or theirs.state.current is None or facts.overwrite or not planned.is_work:
        return planned
    current = theirs.state.current
    is_same = mine.values(current) == theirs.values(current)
    # Words are there where the target's is the newer one.
    if planned.way is Way.RENEW or planned.why or not is_same:
        why = (
            f"{facts.target}: version {current} is another value; `--overwrite {name}` replaces it"
        )
        return Planned(name, Way.CONFLICT, why=why)
    return planned


def _around_destroyed(mine: History, theirs: History, planned: Planned) -> Planned:
    """Return *planned* with no stage at a version that was destroyed in the store meanwhile."""
    gone = {version.number for version, values in theirs.versions if values is None}
    if planned.way is Way.RENEW or not gone & {mine.state.current, mine.state.previous}:
        return planned
    if mine.state.current in gone:
        way, history, versions = Way.RENEW, renewed(mine, theirs), 1
    else:
        state = replace(mine.state, previous=None)
        way, history, versions = planned.way, replace(mine, state=state), planned.versions
    move = Move(history, theirs.state)
    return replace(planned, way=way, versions=versions, move=move)


def _lacks_nothing(mine: History, theirs: History) -> bool:
    here, kept = theirs.state, mine.state
    if here.current is None and kept.current is not None:
        return False
    has_previous = here.previous is not None or theirs.values(kept.previous) is None
    if here.current == kept.current and not has_previous:
        # Whoever wrote it died before the last step.
        return False
    for version, values in mine.versions:
        if theirs.version(version.number) is None:
            return False
        there = theirs.values(version.number)
        if values is not None and there is not None and dict(values) != dict(there):
            return False
    return True


def _newer(mine: History, theirs: History, facts: Facts) -> str:
    here, kept = theirs.state.current, mine.state.current
    if here == kept:
        return ""
    return f"{facts.target}: version {here} is current here, version {kept} in the backup"


def was_written(wanted: History, found: History | None) -> bool:
    """Tell whether *found*, which was read back, is *wanted*."""
    if found is None or found.state != wanted.state:
        return False
    staged = {wanted.state.current, wanted.state.previous}
    for version, values in wanted.versions:
        there = found.values(version.number)
        if found.version(version.number) is None:
            return False
        if values is None:
            continue
        # A store that keeps few versions has let the oldest go, never one in use.
        if version.number in staged if there is None else dict(values) != dict(there):
            return False
    return True
