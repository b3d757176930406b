"""`keyturn history`: the versions of a secret."""

from __future__ import annotations

from pathlib import Path

from keyturn.app.secrets import list_history
from keyturn.cli.options import (
    environment_option,
    json_option,
    names_argument,
    opened,
    pick_environment,
    talk_options,
)
from keyturn.cli.output import Output, age
from keyturn.cli.verb import verb

EXAMPLES = """
keyturn history db
keyturn history db -e production --json
"""


@verb(examples=EXAMPLES)
@names_argument(required=True)
@environment_option
@json_option
@talk_options
def command(
    name: str, environment: str | None, project_dir: Path | None, as_json: bool, quiet: int
) -> None:
    """List the versions of the secret NAME, newest first. Never a value."""
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, output=output) as session:
        ref, rows = list_history(session, pick_environment(session, environment), name)
        now = session.clock.now()
    if as_json:
        output.data(
            [
                {
                    "version": version.number,
                    "stages": stages,
                    "created_at": version.created_at,
                    "origin": version.origin,
                    "fields": list(version.fields),
                    "destroyed": version.destroyed,
                }
                for version, stages in rows
            ]
        )
        return
    output.table(
        ["version", "stage", "age", "origin", "fields"],
        [
            [
                version.number,
                ", ".join(stages) or "-",
                age(now - version.created_at),
                "destroyed" if version.destroyed else version.origin,
                ", ".join(version.fields),
            ]
            for version, stages in rows
        ],
        empty=f"`{ref}` has no version yet",
        right=["version", "age"],
    )
