"""`keyturn status`: ages, due dates and rotations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import click

from keyturn.app.inspection import StatusRow, status
from keyturn.app.retired import undeclared_rotations, way_out
from keyturn.app.secrets import undeclared_note
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    environment_option,
    json_option,
    opened,
    pick_environment,
    talk_options,
)
from keyturn.cli.output import Output, age, span
from keyturn.cli.verb import verb
from keyturn.core.clock import SystemClock
from keyturn.errors import UsageError

EXAMPLES = """
keyturn status
keyturn status -e production --json
keyturn status -e production --format prometheus
keyturn status -e production --format ics
"""


@verb(examples=EXAMPLES)
@environment_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "prometheus", "ics"]),
    help="A table, JSON, Prometheus text, or a calendar of the due dates.",
)
@json_option
@talk_options
def command(
    environment: str | None,
    project_dir: Path | None,
    form: str | None,
    as_json: bool,
    quiet: int,
) -> int:
    """Show every secret's version, age, due date, and the last rotation and its outcome."""
    if as_json and form not in {None, "json"}:
        raise UsageError("`--json` and `--format` ask for two things", hint="give one of them")
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, output=output) as session:
        where = pick_environment(session, environment)
        rows = status(session, where)
        note = undeclared_note(session, where)
        if note is not None:
            output.warn(note)
        open_ones = [row.open_rotation for row in rows if row.open_rotation is not None]
        open_ones += undeclared_rotations(session, where)
        ways = [(each, way_out(session.manifest, each.ref)) for each in open_ones]
        project = session.manifest.project.name
    now = SystemClock().now()
    match form or ("json" if as_json else "table"):
        case "json":
            output.data([_document(row) for row in rows])
        case "prometheus":
            from keyturn.cli.prometheus import prometheus_text

            output.text(prometheus_text(project, where, rows, now=now))
        case "ics":
            from keyturn.cli.calendar_file import calendar_text

            output.text(calendar_text(project, where, rows, now=now))
        case _:
            _table(output, where, rows, now)
            for rotation, way in ways:
                output.say(
                    f"{rotation.ref.name}: a rotation is open at step `{rotation.step}`; {way}",
                    important=True,
                )
    return Exit.DONE


def _table(output: Output, where: str, rows: Sequence[StatusRow], now: datetime) -> None:
    output.table(
        ["secret", "kind", "version", "age", "due in", "state", "last rotation", "consumers"],
        [
            [
                row.secret.name,
                row.secret.kind,
                row.version or "-",
                age(now - row.created_at) if row.created_at else "-",
                span(row.due_at - now) if row.due_at else "-",
                row.verdict,
                _last(row),
                ", ".join(row.consumers) or "-",
            ]
            for row in rows
        ],
        empty=f"no secrets are declared for `{where}`",
        right=["version", "age", "due in"],
    )


def _last(row: StatusRow) -> str:
    if row.last is None:
        return "never"
    when = row.last.finished_at or row.last.updated_at
    since = SystemClock().now() - when
    ago = f"{age(since)} ago" if since >= timedelta(0) else age(since)
    return f"{row.last.state.value} {ago}"


def _document(row: StatusRow) -> dict[str, object]:
    last = row.last
    return {
        "secret": row.secret.name,
        "kind": row.secret.kind,
        "owner": row.secret.owner,
        "priority": row.secret.priority,
        "version": row.version,
        "created_at": row.created_at,
        "max_age_seconds": row.secret.max_age,
        "due_at": row.due_at,
        "overdue_at": row.overdue_at,
        "state": row.verdict,
        "consumers": list(row.consumers),
        "last_rotation": None
        if last is None
        else {
            "id": last.id,
            "state": last.state.value,
            "step": last.step.value,
            "started_at": last.started_at,
            "finished_at": last.finished_at,
            "old_version": last.plan.old_version,
            "new_version": last.new_version,
            "error": last.error,
        },
    }
