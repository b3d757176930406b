"""`keyturn render`: write the files that consumers read."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.rendering import check_rendered, render
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    consumer_option,
    environment_option,
    json_option,
    opened,
    pick_environment,
    talk_options,
)
from keyturn.cli.output import Output
from keyturn.cli.verb import verb
from keyturn.errors import UsageError

EXAMPLES = """
keyturn render -e production
keyturn render --consumer backend
keyturn render --check              # is each delivered copy current?
"""


@verb(examples=EXAMPLES)
@consumer_option("Only this consumer's file; default: every consumer's.")
@click.option("--check", is_flag=True, help="Write nothing; say whether each copy is current.")
@click.option("--replace", is_flag=True, help="Write also over a file that Keyturn did not write.")
@environment_option
@json_option
@talk_options
def command(
    consumer: str | None,
    check: bool,
    replace: bool,
    environment: str | None,
    project_dir: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Write each consumer's file as `[consumers.NAME.render]` describes it.

    Owner and mode are set before the first byte, and the file is replaced
    atomically; one that Keyturn did not write is left alone, unless you say
    `--replace`. With `--check`, exit code 1 says that a copy is not current and 3
    that no consumer has a file.
    """
    if check and replace:
        raise UsageError("`--check` writes nothing, and `--replace` writes", hint="give one")
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, output=output) as session:
        where = pick_environment(session, environment)
        if check:
            results = check_rendered(session, where, consumer)
        else:
            results = render(session, where, consumer, replace=replace)
    stale = [result for result in results if result.differences]
    if as_json:
        output.data(
            [
                {
                    "consumer": result.consumer,
                    "path": str(result.path),
                    "state": result.state,
                    "differences": list(result.differences),
                }
                for result in results
            ]
        )
    elif check:
        output.table(
            ["consumer", "file", "state", "differences"],
            [
                [result.consumer, result.path, result.state, "; ".join(result.differences) or "-"]
                for result in results
            ],
            empty="no consumer has a `[consumers.NAME.render]` section",
        )
    else:
        for result in results:
            output.say(f"{result.consumer}: {result.path} {result.state}")
    if not results:
        if not check and not as_json:
            output.say("no consumer has a `[consumers.NAME.render]` section")
        return Exit.NOTHING
    return Exit.BAD if check and stale else Exit.DONE
