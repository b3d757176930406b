"""`keyturn run`, the long way round; the short one is in `keyturn.fast`."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn import fast
from keyturn.app.delivery import prepare_run
from keyturn.cli.options import (
    consumer_option,
    environment_option,
    opened,
    pick_environment,
    talk_options,
)
from keyturn.cli.output import Output
from keyturn.cli.verb import verb

EXAMPLES = """
keyturn run -- ./server
keyturn run -e production --consumer backend -- gunicorn app:app
"""


@verb(examples=EXAMPLES, context_settings={"allow_interspersed_args": False})
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
@consumer_option("Give only what this consumer uses; default: everything.")
@environment_option
@talk_options
def command(
    program: tuple[str, ...],
    consumer: str | None,
    environment: str | None,
    project_dir: Path | None,
    quiet: int,
) -> int:
    """
    Become PROGRAM, with its secrets and settings in its environment.

    Keyturn replaces itself: signals, terminal, process id and exit code are the
    program's own. Secrets replace variables of the same name; plain settings give
    way to what is set already. The record is durable before the program starts.
    """
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, output=output) as session:
        where = pick_environment(session, environment)
        environ = prepare_run(session, where, consumer, program)
    return fast.start(list(program), environ)
