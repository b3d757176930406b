"""What `rotate` and `tick` show of rotations: one, many, a rehearsal."""

from __future__ import annotations

import time
from collections.abc import Iterable

from keyturn.app import rotation as rotations
from keyturn.app.session import Session
from keyturn.app.waves import Ended, WaveEnd, rotate_waves, waves_of
from keyturn.cli.exits import Exit
from keyturn.cli.output import Output
from keyturn.core.clock import rfc3339
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef
from keyturn.errors import KeyturnError, UsageError
from keyturn.rotate import Rehearsed, Report, Step

__all__ = [
    "counted",
    "document",
    "end_document",
    "preview_all",
    "rehearse_one",
    "rotate_all",
    "show_end",
    "tell",
]

_MARKS = {
    WaveEnd.DONE: "✓",
    WaveEnd.WAITING: "…",
    WaveEnd.FAILED: "✗",
    WaveEnd.PERSON: "!",
    WaveEnd.SKIPPED: "-",
}


def tell(output: Output, reports: list[Report], *, shown: bool = False) -> None:
    """
    Say how rotations ended or what they wait for.

    Args:
        shown: A person was told already what has to be done for a new value.

    Raises:
        RotationFailed: The last of those that failed; the others are shown.
    """
    if output.as_json:
        output.data([document(report) for report in reports])
    failed: KeyturnError | None = None
    for report in reports:
        try:
            report.require_success()
        except KeyturnError as error:
            if failed is not None:
                output.error(failed)
            failed = error
            continue
        for line in _summary(report, shown=shown).splitlines():
            output.say(line, important=report.rotation.is_open)
    if failed is not None:
        raise failed


def _summary(report: Report, *, shown: bool) -> str:
    found, ref = report.rotation, report.rotation.ref
    resume = f"`keyturn rotate --resume {ref.name} -e {ref.environment}`"
    if report.waiting is not None and shown and found.step is Step.CREATE:
        go_on = f"`keyturn rotate {ref.name} -e {ref.environment}`"
        return f"{ref}: it waits for the new value; {go_on} asks for it again, also days later"
    if report.waiting is not None:
        hint = f"\n{report.waiting.hint}" if report.waiting.hint else ""
        when = "" if report.waits_until is None else f" (tried again {_minute(report)})"
        who = "a person is needed" if report.waiting.person else "it waits"
        text = f"{ref}: {who} at `{found.step}`: {report.waiting.message}{when}{hint}"
        return f"{text}\nthen {resume}" if report.waiting.person and not hint else text
    if report.waits_until is not None:
        return (
            f"{ref}: version {found.new_version} is in use; the old one stays valid until "
            f"{_minute(report)}, then {resume} ends it; until then"
            f" `keyturn rollback {ref.name} -e {ref.environment}` goes back to it"
        )
    return f"{ref}: version {found.new_version} is in use, rotation done"


def _minute(report: Report) -> str:
    return "" if report.waits_until is None else f"{rfc3339(report.waits_until)[:19]}Z"


def document(report: Report) -> dict[str, object]:
    """Return *report* as `--json` shows it."""
    found = report.rotation
    return {
        "rotation": found.id,
        "environment": found.ref.environment,
        "secret": found.ref.name,
        "state": found.state.value,
        "step": found.step.value,
        "old_version": found.plan.old_version,
        "new_version": found.new_version,
        "waits_until": report.waits_until,
        "waits_for": None if report.waiting is None else report.waiting.message,
        "error": found.error,
        "notes": list(report.notes),
    }


def rehearse_one(session: Session, output: Output, ref: SecretRef) -> int:
    """Rehearse the rotation of *ref*, show each step, and return 1 where one failed."""
    lines = list(rotations.rehearsal(session, ref))
    if output.as_json:
        output.data([_rehearsed(line) for line in lines])
    else:
        output.table(
            ["step", "result", "what was seen"],
            [[line.step, "ok" if line.failure is None else "failed", line.text] for line in lines],
        )
    failures = [line.failure for line in lines if line.failure is not None]
    for hint in dict.fromkeys(failure.hint for failure in failures if failure.hint):
        output.say(f"hint: {hint}", important=True)
    if not failures:
        output.say(f"{ref}: a rotation would go through; nothing was stored or delivered")
    return Exit.BAD if failures else Exit.DONE


def _rehearsed(line: Rehearsed) -> dict[str, object]:
    return {
        "step": line.step,
        "ok": line.failure is None,
        "text": line.text,
        "hint": None if line.failure is None else line.failure.hint,
    }


def preview_all(
    session: Session,
    output: Output,
    where: EnvironmentName,
    *,
    priority: str | None,
    rehearse: bool,
) -> int:
    """Show the waves, or rehearse every rotation that can be."""
    waves = waves_of(session.manifest, where, priority=priority)
    if not rehearse:
        rows = [
            [number, secret.name, secret.kind, secret.priority, ", ".join(secret.depends_on) or "-"]
            for number, wave in enumerate(waves, 1)
            for secret in wave
        ]
        heads = ["wave", "secret", "kind", "priority", "after"]
        if output.as_json:
            output.data([dict(zip(heads, row, strict=True)) for row in rows])
        else:
            output.table(heads, rows, empty="nothing to rotate", right=["wave"])
            output.say("nothing was touched")
        return Exit.DONE if rows else Exit.NOTHING
    worst: int = Exit.NOTHING
    for secret in (secret for wave in waves for secret in wave):
        ref = SecretRef(where, secret.name)
        output.say(f"{ref}", important=True)
        try:
            code = rehearse_one(session, output, ref)
        except UsageError as error:
            output.say(f"  {error.message}")
            continue
        except KeyturnError as error:
            output.error(error)
            code = Exit.BAD
        worst = Exit.BAD if Exit.BAD in (code, worst) else Exit.DONE
    return worst


def rotate_all(
    session: Session,
    output: Output,
    where: EnvironmentName,
    *,
    priority: str | None,
    now: bool,
    at_once: int,
) -> int:
    """Rotate every secret of *where* in waves, and return 1 where one failed."""
    started = time.monotonic()
    waves = waves_of(session.manifest, where, priority=priority)
    ends: list[Ended] = []
    for ended in rotate_waves(session, where, waves, now=now, at_once=at_once):
        show_end(output, ended)
        ends.append(ended)
    seconds = time.monotonic() - started
    if output.as_json:
        output.data(
            {"seconds": round(seconds, 3), "secrets": [end_document(each) for each in ends]}
        )
    counts = counted(ends)
    output.say(f"{counts} in {seconds:.1f} s", important=True)
    if any(each.end is WaveEnd.FAILED for each in ends):
        return Exit.BAD
    return Exit.DONE if any(each.report is not None for each in ends) else Exit.NOTHING


def counted(ends: Iterable[Ended]) -> str:
    """Return how many ended how, in words."""
    words = {
        WaveEnd.DONE: "rotated",
        WaveEnd.WAITING: "waiting",
        WaveEnd.PERSON: "for a person",
        WaveEnd.SKIPPED: "left out",
        WaveEnd.FAILED: "failed",
    }
    found = list(ends)
    counted = ((word, sum(each.end is end for each in found)) for end, word in words.items())
    return ", ".join(f"{count} {word}" for word, count in counted if count) or "nothing to rotate"


def show_end(output: Output, ended: Ended, *, full: bool = False) -> None:
    """Show one line for what became of a secret; *full* names its environment too."""
    detail = f"  {ended.text}" if ended.text else ""
    if ended.report is not None and not detail:
        detail = f"  version {ended.report.rotation.new_version}"
    name = str(ended.ref) if full else ended.ref.name
    line = f"  {_MARKS[ended.end]} {name:<24} {ended.end:<8} {ended.seconds:>6.2f} s"
    output.say(
        line + detail,
        important=ended.end in (WaveEnd.FAILED, WaveEnd.PERSON),
    )


def end_document(ended: Ended) -> dict[str, object]:
    """Return what became of a secret as `--json` shows it."""
    return {
        "secret": ended.ref.name,
        "environment": ended.ref.environment,
        "end": ended.end.value,
        "seconds": round(ended.seconds, 3),
        "text": ended.text,
        "rotation": None if ended.report is None else document(ended.report),
    }
