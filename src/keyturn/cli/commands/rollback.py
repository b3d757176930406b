"""`keyturn rollback`: make an earlier version current again."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app import rotation as rotations
from keyturn.app.secrets import find_secret, roll_back
from keyturn.app.session import Session
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
from keyturn.cli.progress import StepDisplay
from keyturn.cli.verb import verb
from keyturn.core.model import SecretRef
from keyturn.rotate import Report, State

EXAMPLES = """
keyturn rollback session
keyturn rollback session --to 3 -e production --reason 'bad paste'
keyturn rollback db                            # during its grace: back to the old login
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

    While a rotation of NAME is open and has not begun to end the old version, it is
    turned back: consumers get the old version again, and the new one is withdrawn.
    """
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        where = pick_environment(session, environment)
        ref = find_secret(session, where, name)
        if to is None and session.journal.live(ref) is not None:
            confirm_change(session, where, f"turn the rotation of `{ref}` back?", yes=yes)
            _turn_back(session, output, ref)
            return
        confirm_change(session, where, f"roll back `{ref}`?", yes=yes)
        ref, number = roll_back(session, where, name, to=to, force=force)
        if session.manifest.secret_in(where, ref.name).target:
            output.warn(
                f"`{ref.name}` opens a target, which may not accept version {number}: "
                f"run `keyturn test {ref.name} -e {where}`"
            )
        output.say(f"{ref}: version {number} is current")


def _turn_back(session: Session, output: Output, ref: SecretRef) -> None:
    with StepDisplay(output, str(ref)) as display:
        report = rotations.turn_back(session, ref, listener=display.progress, say=display.say)
    if report.rotation.state is not State.ROLLED_BACK:
        _require_settled(output, report)
        return
    if not report.rotation.plan.reversible:
        report.require_success()
    number = session.store.state(ref).current
    output.say(f"{ref}: the rotation was turned back; version {number or 'none'} is current")


def _require_settled(output: Output, report: Report) -> None:
    """
    Say what the way back waits for.

    Raises:
        RotationFailed: It is stuck.
    """
    report.require_success()
    found, ref = report.rotation, report.rotation.ref
    why = "" if report.waiting is None else f": {report.waiting.message}"
    hint = f"\n{report.waiting.hint}" if report.waiting is not None and report.waiting.hint else ""
    output.say(
        f"{ref}: on the way back, it waits at `{found.step}`{why}{hint}\n"
        f"then `keyturn rotate --resume {ref.name} -e {ref.environment}`",
        important=True,
    )
