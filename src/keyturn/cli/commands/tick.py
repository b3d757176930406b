"""`keyturn tick`: do all that is due."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyturn.app.judging import Judged, judge_all
from keyturn.app.reminders import remind
from keyturn.app.session import Session
from keyturn.app.tick import tick
from keyturn.audit import Action
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    environment_completion,
    json_option,
    opened,
    project_option,
    talk_options,
)
from keyturn.cli.output import Output
from keyturn.cli.verb import verb
from keyturn.core.clock import rfc3339
from keyturn.core.ids import EnvironmentName
from keyturn.errors import KeyturnError

if TYPE_CHECKING:
    from keyturn.app.waves import Ended

EXAMPLES = """
keyturn tick                                   # all that is due, in every environment
keyturn tick --dry-run                         # what it would do now, and what waits for what
keyturn tick -e staging -e production -q       # for cron: talks only of what needs you
"""

# What the audit log says, and what a protected environment asks for.
_REASON = "schedule"


@verb(examples=EXAMPLES)
@click.option(
    "-e",
    "--environment",
    "environments",
    multiple=True,
    shell_complete=environment_completion,
    help="Only this one; may be given again. Default: every environment.",
)
@project_option
@click.option("--dry-run", is_flag=True, help="Show what would be done; touch nothing.")
@click.option("--at-once", default=4, type=click.IntRange(1, 32), help="How many side by side.")
@json_option
@talk_options
def command(
    environments: tuple[str, ...],
    project_dir: Path | None,
    dry_run: bool,
    at_once: int,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Do all that is due: begin rotations, go on with those that were interrupted, that
    are stuck or whose wait is over, and say what waits for what.

    Run it from a timer, cron or by hand, as often as you like and any number at once:
    nothing is rotated twice, and what a missed run left undone the next one does. It
    asks nobody anything. What only a person can do is shown and left alone, and the
    contacts are told of it, once each.
    """
    output = Output(as_json=as_json, quiet=quiet)
    with opened(project_dir=project_dir, reason=_REASON, output=output) as session:
        asked = _environments(session, environments)
        if dry_run:
            return _preview(session, output, asked)
        started = time.monotonic()
        judged, away = _judged(session, asked)
        if away and len(away) == len(asked):
            raise away[asked[0]]
        for failure in away.values():
            output.error(failure)
        where = [name for name in asked if name not in away]
        ends = []
        for ended in tick(session, judged, at_once=at_once):
            _show(output, ended)
            ends.append(ended)
        # What was let go to wait, or came into its own meanwhile, is told as it is now.
        left = _judged(session, where)[0] if ends else judged
        unheard = _remind(session, where, ends)
    for failure in unheard:
        output.error(failure)
    seconds = time.monotonic() - started
    told = {ended.ref for ended in ends}
    left = [each for each in left if not each.to_do and each.ref not in told]
    _tell(output, ends, left, seconds)
    if _is_bad(ends, left):
        return Exit.BAD
    return Exit.UNREACHABLE if unheard or away else Exit.DONE


def _judged(
    session: Session, where: Sequence[EnvironmentName]
) -> tuple[list[Judged], dict[EnvironmentName, KeyturnError]]:
    """Return what is to be done, and why nothing is known of an environment."""
    found: list[Judged] = []
    away: dict[EnvironmentName, KeyturnError] = {}
    for name in where:
        try:
            found += judge_all(session, [name])
        except KeyturnError as error:
            # The store of one environment may be away; the others are not to wait for it.
            error.message = f"nothing can be done in `{name}` now: {error.message}"
            away[name] = error
    return found, away


def _remind(
    session: Session, where: Sequence[EnvironmentName], ends: Sequence[Ended]
) -> list[KeyturnError]:
    """Tell the contacts what is left for them, and return why any was not told."""
    failed = {ended.ref: ended.text for ended in ends if ended.failure is not None}
    unheard: list[KeyturnError] = []
    for environment in where:
        failures = {
            ref.name: text for ref, text in failed.items() if ref.environment == environment
        }
        unheard += remind(session, environment, tended=True, failures=failures).failures
    return unheard


def _environments(session: Session, given: Sequence[str]) -> list[EnvironmentName]:
    names = [session.manifest.environment(name).name for name in given]
    names = list(dict.fromkeys(names)) or list(session.manifest.environments)
    for name in names:
        session.access.authorise(Action.SECRET_STATUS, str(name), environment=name)
    return names


def _preview(session: Session, output: Output, where: Sequence[EnvironmentName]) -> int:
    for name in where:
        session.access.read(Action.SECRET_STATUS, str(name), environment=name)
    judged = judge_all(session, where, everything=output.as_json)
    if output.as_json:
        output.data([_document(each) for each in judged])
        return Exit.DONE
    _table(output, [_row(each) for each in judged])
    output.say("nothing was touched")
    return Exit.DONE


def _show(output: Output, ended: Ended) -> None:
    from keyturn.cli.rotating import show_end

    show_end(output, ended, full=True)
    if ended.failure is not None and ended.failure.hint:
        output.say(f"    {ended.failure.hint}", important=True)


def _tell(output: Output, ends: Sequence[Ended], left: Sequence[Judged], seconds: float) -> None:
    if output.as_json:
        from keyturn.cli.rotating import end_document

        done = [end_document(each) for each in ends]
        waiting = [_document(each) for each in left]
        output.data({"seconds": round(seconds, 3), "done": done, "waiting": waiting})
        return
    if ends or left:
        _table(output, [*(_end_row(each) for each in ends), *(_row(each) for each in left)])
    if not ends:
        output.say("nothing is due" if not left else "nothing to do now")
        return
    from keyturn.cli.rotating import counted

    output.say(f"{counted(ends)} in {seconds:.1f} s")


def _is_bad(ends: Sequence[Ended], left: Sequence[Judged]) -> bool:
    failed = any(each.failure is not None for each in ends)
    return failed or any(each.decision.alarming for each in left)


def _table(output: Output, rows: Sequence[Sequence[object]]) -> None:
    output.table(["secret", "is", "until", "why"], rows, empty="nothing is due")


def _row(judged: Judged) -> list[object]:
    decision = judged.decision
    until = "-" if judged.to_do else _minute(decision.at)
    return [judged.ref, decision.turn.value, until, decision.reason]


def _end_row(ended: Ended) -> list[object]:
    report = ended.report
    why = ended.text
    if report is not None and not why:
        why = f"version {report.rotation.new_version}"
    return [ended.ref, ended.end.value, _minute(report.waits_until if report else None), why]


def _minute(moment: datetime | None) -> str:
    return "-" if moment is None else f"{rfc3339(moment)[:16]}Z"


def _document(judged: Judged) -> dict[str, object]:
    decision = judged.decision
    return {
        "environment": judged.ref.environment,
        "secret": judged.ref.name,
        "turn": decision.turn.value,
        "reason": decision.reason,
        "at": decision.at,
        "alarming": decision.alarming,
    }
