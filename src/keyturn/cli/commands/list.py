"""`keyturn list`: the declared secrets, without values."""

from __future__ import annotations

from pathlib import Path

from keyturn.app.secrets import list_secrets, undeclared_note
from keyturn.cli.options import (
    environment_option,
    json_option,
    opened,
    pick_environment,
    talk_options,
)
from keyturn.cli.output import Output, age
from keyturn.cli.verb import verb

EXAMPLES = """
keyturn list
keyturn list -e production --json
"""


@verb(examples=EXAMPLES)
@environment_option
@json_option
@talk_options
def command(environment: str | None, project_dir: Path | None, as_json: bool, quiet: int) -> None:
    """List the secrets of an environment: kind, variables, version, age. Never a value."""
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, output=output) as session:
        where = pick_environment(session, environment)
        rows = list_secrets(session, where)
        note = undeclared_note(session, where)
        now = session.clock.now()
    if note is not None:
        output.warn(note)
    if as_json:
        output.data(
            [
                {
                    "secret": row.secret.name,
                    "kind": row.secret.kind,
                    "priority": row.secret.priority,
                    "owner": row.secret.owner,
                    "variables": list(row.secret.variables),
                    "required": row.secret.required,
                    "current": row.current,
                    "pending": row.pending,
                    "created_at": row.created_at,
                    "complete": row.complete,
                }
                for row in rows
            ]
        )
        return
    output.table(
        ["secret", "kind", "variables", "version", "age", "state"],
        [
            [
                row.secret.name,
                row.secret.kind,
                ", ".join(row.secret.variables) or "-",
                row.current or "-",
                age(now - row.created_at) if row.created_at else "-",
                _state(row.complete, row.current, required=row.secret.required),
            ]
            for row in rows
        ],
        empty=f"no secrets are declared for `{where}`",
        right=["version", "age"],
    )


def _state(complete: bool, current: int | None, *, required: bool) -> str:
    if complete:
        return "ok"
    if current is not None:
        return "partial"
    return "missing" if required else "optional"
