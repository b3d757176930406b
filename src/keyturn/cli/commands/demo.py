"""`keyturn demo`: watch a database login rotate under load."""

from __future__ import annotations

import click

from keyturn.cli.exits import Exit
from keyturn.cli.options import talk_options
from keyturn.cli.verb import verb

EXAMPLES = """
keyturn demo                     # about half a minute; nothing is left behind
keyturn demo --requests 10000
keyturn demo --keep              # leave the project's folder, to look into
"""

_REQUESTS = 1000
_MAX_REQUESTS = 1_000_000


@verb(examples=EXAMPLES)
@click.option(
    "--requests",
    type=click.IntRange(1, _MAX_REQUESTS),
    default=_REQUESTS,
    show_default=True,
    help="Make at least so many before it ends.",
)
@click.option("--keep", is_flag=True, help="Leave the temporary folder behind.")
@talk_options
def command(requests: int, *, keep: bool, quiet: int) -> int:
    """
    Rotate the database login of a small service under load, in a temporary folder.

    A real PostgreSQL is started, needs no root, and is gone at the end. The exit
    code is 1 where a single request failed.
    """
    del quiet  # a show has nothing else to say
    from keyturn.demo import play

    return Exit.DONE if play(requests=requests, keep=keep) else Exit.BAD
