"""`keyturn generate`: give a first value to what lacks one."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.generation import GenerateOutcome, generate
from keyturn.app.rotation import give_birth
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    confirm_change,
    environment_option,
    json_option,
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
keyturn generate                     # everything that is missing and can be made
keyturn generate session jwt
keyturn generate --missing -e production --reason 'first deployment'
"""


@verb(examples=EXAMPLES)
@names_argument(many=True)
@click.option("--missing", is_flag=True, help="Everything that lacks a value (the default).")
@environment_option
@reason_option
@yes_option
@json_option
@talk_options
def command(
    names: tuple[str, ...],
    missing: bool,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    yes: bool,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Generate values for secrets that have none. Nothing that has a value is touched.

    What a vendor or a person supplies is listed with the command that takes it.
    """
    del missing  # what happens anyway when no name is given
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        where = pick_environment(session, environment)
        confirm_change(session, where, f"generate values in `{where}`?", yes=yes)
        results = [
            give_birth(session, where, result)
            if result.outcome is GenerateOutcome.TO_ROTATE
            else result
            for result in generate(session, where, names)
        ]
    if as_json:
        output.data(
            [
                {
                    "secret": result.secret.name,
                    "outcome": result.outcome,
                    "version": result.version,
                    "hint": result.hint or None,
                }
                for result in results
            ]
        )
        return Exit.DONE
    for result in results:
        if result.outcome is GenerateOutcome.MADE:
            output.say(f"{where}/{result.secret.name}: version {result.version} made")
    left = [result for result in results if result.outcome is not GenerateOutcome.MADE]
    for result in left:
        optional = "" if result.secret.required else " (optional)"
        output.say(f"{where}/{result.secret.name}: not made{optional}; {result.hint}")
    if not results:
        output.say(f"nothing is missing in `{where}`")
    return Exit.DONE
