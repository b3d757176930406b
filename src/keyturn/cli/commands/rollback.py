"""`keyturn rollback`: make an earlier version current again."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.secrets import find_secret, roll_back
from keyturn.cli.options import (
    confirm_change,
    environment_option,
    names_argument,
    opened,
    pick_environment,
    reason_option,
    talk_options,
    yes_option,
)
from keyturn.cli.output import Output
from keyturn.cli.verb import verb

EXAMPLES = """
keyturn rollback session
keyturn rollback session --to 3 -e production --reason 'bad paste'
"""


@verb(examples=EXAMPLES)
@names_argument(required=True)
@click.option("--to", type=click.IntRange(min=1), help="A version number; default: the previous.")
@click.option("--force", is_flag=True, help="Also a version that a rotation has ended.")
@environment_option
@reason_option
@yes_option
@talk_options
def command(
    name: str,
    to: int | None,
    force: bool,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    yes: bool,
    quiet: int,
) -> None:
    """
    Make the previous version of NAME, or version `--to`, current again.

    Only the store changes. Where the secret opens something (a database, a
    vendor), that side keeps what it has: `keyturn test` tells whether they agree.
    A version that a rotation has ended there is refused without `--force`.
    """
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        where = pick_environment(session, environment)
        ref = find_secret(session, where, name)
        confirm_change(session, where, f"roll back `{ref}`?", yes=yes)
        ref, number = roll_back(session, where, name, to=to, force=force)
        if session.manifest.secret_in(where, ref.name).target:
            output.warn(
                f"`{ref.name}` opens a target, which may not accept version {number}: "
                f"run `keyturn test {ref.name} -e {where}`"
            )
        output.say(f"{ref}: version {number} is current")
