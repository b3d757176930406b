"""`keyturn doctor`: check the store, its keys and its files."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.config import Settings
from keyturn.app.doctor import accept_rollback, examine, examine_closed
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    ask_passphrase,
    json_option,
    opened,
    project_option,
    reason_option,
    talk_options,
)
from keyturn.cli.output import Output
from keyturn.cli.verb import verb
from keyturn.errors import Corrupt, IntegrityError

EXAMPLES = """
keyturn doctor
keyturn doctor --json
keyturn doctor --accept-rollback --reason 'restored the backup of Monday'
"""


@verb(examples=EXAMPLES)
@click.option(
    "--accept-rollback", "accept", is_flag=True, help="Go on from an older state of the store."
)
@project_option
@reason_option
@json_option
@talk_options
def command(
    accept: bool,
    project_dir: Path | None,
    reason: str | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Check folders, modes, keys, every sealed row, the audit chain and what was left half-done.

    It goes on after a fault, changes nothing, and says for each what to do.
    """
    output = Output(quiet=quiet)
    try:
        with opened(
            project_dir=project_dir, reason=reason, output=output, accept_rollback=accept
        ) as session:
            if accept:
                output.say(accept_rollback(session), important=True)
            found = list(examine(session))
    except (Corrupt, IntegrityError) as error:
        found = list(
            examine_closed(
                Settings.read(),
                project_dir=project_dir,
                ask_passphrase=ask_passphrase,
                error=error,
            )
        )
    if as_json:
        output.data(
            [
                {"what": look.what, "result": look.result, "detail": look.detail, "fix": look.fix}
                for look in found
            ]
        )
    else:
        output.table(
            ["what", "result", "detail", "fix"],
            [[look.what, look.result, look.detail, look.fix or "-"] for look in found],
        )
    return Exit.BAD if any(look.result == "fail" for look in found) else Exit.DONE
