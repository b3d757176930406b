"""`keyturn set`: store a value given by prompt, standard input or file."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.secrets import find_secret, is_whole, set_field, set_fields
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
from keyturn.cli.prompt import ask_value, read_value
from keyturn.cli.verb import verb
from keyturn.core.ids import FieldName
from keyturn.core.value import SecretValue
from keyturn.errors import UsageError

EXAMPLES = """
keyturn set session                        # asks twice, without echo
keyturn set db -e production --reason 'first value'
printf %s "$NEW" | keyturn set db.password -
keyturn set jwt.private_key --from-file key.pem
"""


@verb(examples=EXAMPLES)
@names_argument(required=True)
@click.argument("rest", nargs=-1, type=click.UNPROCESSED, metavar="[-]")
@click.option("--from-file", type=click.Path(path_type=Path), help="Read the value from a file.")
@click.option("--keep-newline", is_flag=True, help="Keep one final newline of stdin or file.")
@click.option("--force", is_flag=True, help="Also a value that a rotation has ended.")
@environment_option
@reason_option
@yes_option
@talk_options
def command(
    name: str,
    rest: tuple[str, ...],
    from_file: Path | None,
    keep_newline: bool,
    force: bool,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    yes: bool,
    quiet: int,
) -> None:
    """
    Store a value for the secret, field or variable NAME, and make it current.

    NAME is `session`, `db.password` or `DB_PASSWORD`. A secret of several fields
    named alone asks for each. `-` reads standard input. A value is never taken
    from the command line, where `ps` and the shell's history would keep it. One that a
    rotation has ended is refused without `--force`.
    """
    if "=" in name:
        _refuse(name.partition("=")[0])
    if any(word != "-" for word in rest) or len(rest) > 1:
        _refuse(name)
    if rest and from_file is not None:
        raise UsageError("give `-` or `--from-file`, not both")
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        where = pick_environment(session, environment)
        whole = not rest and from_file is None and is_whole(session, where, name)
        if not whole:
            session.manifest.find_field(name, where)
        confirm_change(session, where, f"set `{name}` in `{where}`?", yes=yes)
        if whole:
            ref = find_secret(session, where, name)
            secret = session.manifest.secret_in(where, ref.name)
            values: dict[FieldName, SecretValue] = {
                field: ask_value(f"{secret.name}.{field}", twice=field not in secret.identifiers)
                for field in secret.fields
            }
            version = set_fields(session, ref, values, force=force)
        else:
            source = "-" if rest else str(from_file) if from_file else None
            value = read_value(source, keep_newline=keep_newline) if source else ask_value(name)
            version = set_field(session, where, name, value, force=force)
        output.say(f"{version.ref}: version {version.number} is current")


def _refuse(name: str) -> None:
    raise UsageError(
        f"a value for `{name}` was given on the command line and is not taken",
        hint="others could see it in the process list, and your shell may have kept it: "
        f"remove it from the history, then run `keyturn set {name}` and type it, "
        f"or pipe it into `keyturn set {name} -`",
        code="usage.value_in_arguments",
    )
