"""`keyturn get`: print a value, the long way round; the short one is in `keyturn.fast`."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.getting import get_current
from keyturn.app.secrets import get_value
from keyturn.cli.options import (
    environment_option,
    json_option,
    names_argument,
    opened,
    pick_environment,
    reason_option,
    talk_options,
)
from keyturn.cli.output import Output
from keyturn.cli.verb import verb
from keyturn.core.model import Stage
from keyturn.core.value import SecretValue
from keyturn.errors import UsageError
from keyturn.fast import write_value

EXAMPLES = """
keyturn get DB_PASSWORD
keyturn get db.password -e production
keyturn get db.username --stage previous
keyturn get session --json --reveal
"""


@verb(examples=EXAMPLES)
@names_argument(required=True)
@click.option("--version", "number", type=click.IntRange(min=1), help="A version by its number.")
@click.option(
    "--stage",
    type=click.Choice([str(stage) for stage in Stage]),
    help="A version by its stage; default: current.",
)
@click.option("--reveal", is_flag=True, help="With --json: include the value.")
@environment_option
@reason_option
@json_option
@talk_options
def command(
    name: str,
    number: int | None,
    stage: str | None,
    reveal: bool,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    as_json: bool,
    quiet: int,
) -> None:
    """
    Print the value of NAME: `session`, `db.password` or `DB_PASSWORD`.

    Exactly the stored bytes are written, and a newline only on a terminal. The
    read is recorded before the value leaves. `--json` writes what is known of
    it, without the value unless `--reveal` is given.
    """
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        where = pick_environment(session, environment)
        if number is None and stage is None and not as_json:
            write_value(get_current(session, where, name).reveal())
            return
        selector = number if number is not None else Stage(stage or "current")
        found, field = get_value(session, where, name, selector)
        if not as_json:
            write_value(found.values[field].reveal())
            return
        document = {
            "secret": found.version.ref.name,
            "environment": where,
            "field": field,
            "version": found.version.number,
            "created_at": found.version.created_at,
            "origin": found.version.origin,
        }
        if reveal:
            document["value"] = _text(found.values[field])
        output.data(document)


def _text(value: SecretValue) -> str:
    try:
        return value.reveal_text()
    except ValueError:
        raise UsageError(
            "the value is not text, which JSON is", hint="without `--json` its bytes are written"
        ) from None
