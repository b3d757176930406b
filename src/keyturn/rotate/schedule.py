"""
What the schedule does about a secret: pure judgement, from what is true and the time.

Nothing is remembered between two judgements, so a run that was missed is made up for
by the next one. Where a rotation is open, its journal says what is next:

    a process holds it               leave it
    interrupted                      go on at once
    waits for a time                 go on when that has passed; a grace, not in a freeze
    waits for a person               tell a person
    stuck                            go on, each time after a longer pause

Otherwise the age of the current version does: it is due a little before its max_age,
by an amount that belongs to the version, so that secrets made together spread out.

A time that lies in the future was written by a clock that has been set back since. It
never keeps anything waiting: what is due by it is due now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from hashlib import blake2s

from keyturn.core.model import SecretRef
from keyturn.manifest import ScheduleSettings, Window
from keyturn.rotate._owner import NOBODY
from keyturn.rotate._rows import AHEAD, TIME, Rotation, State
from keyturn.rotate.saga import Step

__all__ = [
    "Decision",
    "Partners",
    "Subject",
    "Turn",
    "due_at",
    "earliest_due",
    "freeze_end",
    "judge",
    "pair_wait",
    "pause_after",
]

# (first pause, longest pause); each one is twice the one before.
_RETRY = (timedelta(minutes=5), timedelta(hours=6))
_PERSON = (timedelta(hours=1), timedelta(hours=24))
# The last parts of the codes of failures that may be gone by themselves next time.
_PASSING = frozenset({"unavailable", "unknown", "busy", "connection"})
# There is no way back from these: what is stuck there can only be finished.
_FORWARD = frozenset({Step.ADVANCE, Step.RETIRE, Step.PROVE})
# Old and new credential are both valid before these have acted.
_ENDING = frozenset({Step.ADVANCE, Step.RETIRE})
_JITTER_STEPS = 2**32
# Windows that follow each other without a gap; more than anybody writes.
_MAX_WINDOWS = 64


class Turn(StrEnum):
    """What is to be done about a secret."""

    NOTHING = "nothing"
    ROTATE = "rotate"
    RESUME = "resume"
    WAIT = "wait"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Decision:
    """
    What to do about one secret.

    Args:
        reason: Why, in words.
        at: When that changes by itself, or when it became due; None for never.
        alarming: A person should look at it now.
    """

    turn: Turn
    reason: str = ""
    at: datetime | None = None
    alarming: bool = False


@dataclass(frozen=True, slots=True)
class Partners:
    """
    The other members of a secret's pair.

    Args:
        rotating: One whose rotation is open.
        made_at: When the youngest of their current versions was made.
    """

    rotating: str | None = None
    made_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """
    What is true of one secret.

    Args:
        version: The current one; None where it has none.
        made_at: When that was made.
        by_hand: Why only a person can rotate it; None where the schedule can.
        open: Its rotation that has not ended.
        held: A process that may be alive holds that one.
        setbacks: How often that one got stuck.
        failed_at: When each rotation of the current version ended without success.
        failure: The code of the last such failure.
        frozen_until: The end of the freeze that now lies in.
    """

    ref: SecretRef
    max_age: timedelta | None = None
    version: int | None = None
    made_at: datetime | None = None
    by_hand: str | None = None
    open: Rotation | None = None
    held: bool = False
    setbacks: int = 0
    failed_at: Sequence[datetime] = ()
    failure: str = ""
    partners: Partners = Partners()
    frozen_until: datetime | None = None


def judge(subject: Subject, now: datetime, settings: ScheduleSettings) -> Decision:
    """Return what is to be done about *subject* at *now*."""
    if subject.open is not None:
        return _judge_open(subject, subject.open, now)
    if subject.version is None or subject.made_at is None:
        return Decision(Turn.NOTHING, "it has no value")
    if subject.max_age is None:
        return Decision(Turn.NOTHING, "it has no max_age")
    due = due_at(subject.ref, subject.version, subject.made_at, subject.max_age, settings)
    ahead = subject.made_at - now > AHEAD
    if now < due and not ahead:
        return Decision(Turn.NOTHING, "it is young enough", due)
    overdue = ahead or now >= subject.made_at + subject.max_age
    if subject.by_hand is not None:
        failed = f"; {_failed_words(subject)}" if subject.failed_at else ""
        return Decision(Turn.PERSON, subject.by_hand + failed, due, alarming=overdue)
    return _obstacle(subject, now, settings, overdue=overdue) or Decision(
        Turn.ROTATE, "the clock was set back since it was made" if ahead else "it is due", due
    )


def _obstacle(
    subject: Subject, now: datetime, settings: ScheduleSettings, *, overdue: bool
) -> Decision | None:
    failed = [moment for moment in subject.failed_at if moment <= now]
    if failed:
        count = len(subject.failed_at)
        again = max(failed) + pause_after(subject.failure, count)
        if now < again:
            return Decision(Turn.WAIT, _failed_words(subject), again, alarming=overdue)
    if subject.frozen_until is not None:
        return Decision(Turn.WAIT, "a freeze", subject.frozen_until)
    return pair_wait(subject.partners, now, settings)


def _failed_words(subject: Subject) -> str:
    count = len(subject.failed_at)
    times = "once" if count == 1 else f"{count} times"
    return f"its rotation failed {times}, the last time with `{subject.failure}`"


def _judge_open(subject: Subject, rotation: Rotation, now: datetime) -> Decision:
    if subject.held:
        return Decision(Turn.NOTHING, "its rotation is running")
    if rotation.state is State.STUCK:
        return _judge_stuck(subject, rotation, now)
    return _judge_live(subject, rotation, now)


def _judge_live(subject: Subject, rotation: Rotation, now: datetime) -> Decision:
    if rotation.updated_at - now > AHEAD:
        return Decision(Turn.RESUME, "the clock was set back since its rotation stopped")
    at_step, until = f"its rotation is at `{rotation.step}`", rotation.wait_until
    early = until is not None and now < until
    if rotation.waits_for_person and (until is None or early):
        return Decision(Turn.PERSON, f"{at_step}: {rotation.error}", until)
    if early:
        why = rotation.error if rotation.error_code == TIME else "old and new are both valid"
        return Decision(Turn.WAIT, f"{at_step}: {why}", until)
    if subject.frozen_until is not None and _has_both(rotation):
        return Decision(Turn.WAIT, f"{at_step}, and a freeze", subject.frozen_until)
    return Decision(Turn.RESUME, at_step, until)


def _judge_stuck(subject: Subject, rotation: Rotation, now: datetime) -> Decision:
    forward = rotation.step in _FORWARD
    bounds = _RETRY if forward else _class(rotation.error_code or "")
    again = rotation.updated_at + _pause(bounds, subject.setbacks)
    if rotation.updated_at <= now < again:
        text = f"its rotation is stuck at `{rotation.step}`: {rotation.error}"
        return Decision(Turn.WAIT, text, again, alarming=True)
    return Decision(Turn.RESUME, f"its rotation was stuck at `{rotation.step}`", again)


def _has_both(rotation: Rotation) -> bool:
    # Nothing is unfinished there: what would be next is the end of the old credential.
    waited = rotation.owner == NOBODY and rotation.error_code == TIME
    return rotation.step is Step.GRACE or (waited and rotation.step in _ENDING)


def due_at(
    ref: SecretRef, version: int, made_at: datetime, max_age: timedelta, settings: ScheduleSettings
) -> datetime:
    """Return when *version* of *ref* is due: the same for whoever asks, whenever."""
    spread = max_age * settings.jitter_percent / 100
    digest = blake2s(f"{ref}/{version}".encode(), digest_size=4).digest()
    return made_at + max_age - spread * (int.from_bytes(digest) / _JITTER_STEPS)


def earliest_due(made_at: datetime, max_age: timedelta, settings: ScheduleSettings) -> datetime:
    """Return a moment before which no version made at *made_at* is due."""
    return made_at + max_age * (100 - settings.jitter_percent) / 100


def pair_wait(partners: Partners, now: datetime, settings: ScheduleSettings) -> Decision | None:
    """Return how long a secret waits for the others of its pair; None for not at all."""
    if partners.rotating is not None:
        return Decision(Turn.WAIT, f"`{partners.rotating}`, of its pair, is being rotated")
    if partners.made_at is None or partners.made_at - now > AHEAD:
        return None
    again = partners.made_at + settings.pair_distance
    if now >= again:
        return None
    return Decision(Turn.WAIT, "another of its pair was rotated a short time ago", again)


def pause_after(code: str, failures: int) -> timedelta:
    """Return how long to wait after the last of *failures* in a row, which ended in *code*."""
    return _pause(_class(code), failures)


def _class(code: str) -> tuple[timedelta, timedelta]:
    return _RETRY if code.rpartition(".")[2] in _PASSING else _PERSON


def _pause(bounds: tuple[timedelta, timedelta], failures: int) -> timedelta:
    first, longest = bounds
    # Bounded before it is raised: a secret may fail for years.
    doubled: int = 2 ** min(max(failures, 1) - 1, 16)
    return min(first * doubled, longest)


def freeze_end(windows: Sequence[Window], where: tzinfo, now: datetime) -> datetime | None:
    """
    Return the end of the freeze that *now* lies in, by the clock of *where*; None for none.

    Where that clock is set back over the end of a window, the hour that comes again is
    frozen again: what counts at any time is what the clock on the wall shows.
    """
    end: datetime | None = None
    moment = now
    for _ in range(_MAX_WINDOWS):
        covering = [window for window in windows if window.covers(moment, where)]
        if not covering:
            return end
        end = moment = max(window.ends_after(moment, where) for window in covering)
    return end
