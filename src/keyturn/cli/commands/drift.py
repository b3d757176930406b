"""`keyturn drift`: what others did to the values, and what to do about it."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.drift import Drifted, accept, discard, drift_words, find_drifts, restore
from keyturn.app.session import Session
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
from keyturn.core.ids import EnvironmentName
from keyturn.errors import KeyturnError, UsageError

EXAMPLES = """
keyturn drift -e production
keyturn drift db -e production --accept
keyturn drift db -e production --restore
keyturn drift -e production --accept
"""


@verb(examples=EXAMPLES)
@names_argument(many=True)
@click.option("--accept", "todo", flag_value="accept", help="Take what is there as a new version.")
@click.option("--restore", "todo", flag_value="restore", help="Put the recorded version back.")
@click.option("--discard", "todo", flag_value="discard", help="Give up what is pending.")
@environment_option
@reason_option
@yes_option
@json_option
@talk_options
def command(
    names: tuple[str, ...],
    todo: str | None,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    yes: bool,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Show what was changed in a team's own store and not by Keyturn, or do something about it.

    Without NAMES it is about every secret. Values that were there before Keyturn was are
    shown as well: `--accept` takes them in. Nothing is printed of any value.
    Exit code 1 where something differs and is left as it is.
    """
    if as_json and todo is not None:
        raise UsageError("`--json` shows, and changes nothing", hint=f"leave out `--{todo}`")
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        where = pick_environment(session, environment)
        found = find_drifts(session, where, names)
        if todo is not None:
            return _do(session, where, found, todo, output, yes=yes)
    if as_json:
        output.data([_document(each) for each in found])
    else:
        output.table(
            ["secret", "what"],
            [[each.ref.name, _words(each)] for each in found],
            empty=f"everything in `{where}` is as Keyturn left it",
        )
    return Exit.BAD if found else Exit.DONE


def _do(
    session: Session,
    where: EnvironmentName,
    found: list[Drifted],
    todo: str,
    output: Output,
    *,
    yes: bool,
) -> int:
    chosen = [
        each for each in found if (each.pending if todo == "discard" else each.drift) is not None
    ]
    if not chosen:
        output.say(f"there is nothing to {todo}")
        return Exit.NOTHING
    names = ", ".join(f"`{each.ref.name}`" for each in chosen)
    confirm_change(session, where, f"{todo} {names} in `{where}`?", yes=yes)
    failed = False
    for each in chosen:
        try:
            _do_one(session, each, todo, output)
        except KeyturnError as error:
            # The others are no less adrift for it.
            failed = True
            output.error(error)
    return Exit.BAD if failed else Exit.DONE


def _do_one(session: Session, each: Drifted, todo: str, output: Output) -> None:
    match todo:
        case "accept":
            version = accept(session, each)
            output.say(f"{each.ref}: what is live is version {version.number}, and current")
        case "restore":
            version = restore(session, each)
            output.say(f"{each.ref}: version {version.number} is live again")
        case _:
            discard(session, each)
            output.say(f"{each.ref}: nothing is pending any more")


def _words(each: Drifted) -> str:
    said = []
    if each.drift is not None:
        said.append(drift_words(each.drift).partition(": see")[0])
    if each.pending is not None:
        said.append(
            f"version {each.pending.number} ({each.pending.origin}) is pending, and no rotation"
            " here knows of it"
        )
    return "; ".join(said)


def _document(each: Drifted) -> dict[str, object]:
    drift, pending = each.drift, each.pending
    return {
        "secret": each.ref.name,
        "drift": None if drift is None else drift.kind,
        "recorded_version": None if drift is None or not drift.recorded else drift.recorded,
        "fields": [] if drift is None else list(drift.fields),
        "pending_version": None if pending is None else pending.number,
        "pending_since": None if pending is None else pending.created_at,
    }
