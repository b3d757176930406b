"""`keyturn diff`: two environments or stores side by side, without values."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.comparing import Compared, Held, Verdict, compare
from keyturn.app.sides import Side, pick_sides
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
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
keyturn diff local team -e production
keyturn diff development production
keyturn diff local:staging team:production --names
"""


@verb(examples=EXAMPLES)
@click.argument("first")
@click.argument("second")
@click.option("--names", "names_only", is_flag=True, help="Only name the secrets that differ.")
@environment_option
@json_option
@talk_options
def command(
    first: str,
    second: str,
    names_only: bool,
    environment: str | None,
    project_dir: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Compare what FIRST and SECOND hold: the same values, others, or none.

    Each is an environment, a store (of the environment that `-e` names), or
    STORE:ENVIRONMENT. Values are compared by keyed digest, field by field; nothing is
    printed of any value. Exit code 1 where something differs.
    """
    if as_json and names_only:
        raise UsageError("`--json` tells everything", hint="leave out `--names`")
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, output=output) as session:
        where = pick_environment(session, environment)
        sides = pick_sides(session.manifest, first, second, where)
        found = compare(session, *sides)
    differing = [each for each in found if not each.is_same]
    if as_json:
        output.data(_document(sides, found))
    elif names_only:
        for each in differing:
            output.line(each.name)
    else:
        _show(output, sides, found)
        output.say(f"{len(differing)} of {len(found)} differ")
    return Exit.BAD if differing else Exit.DONE


def _show(output: Output, sides: tuple[Side, Side], found: list[Compared]) -> None:
    output.table(
        ["secret", "result", *map(str, sides)],
        [
            [each.name, _result(each, sides), _version(each.first), _version(each.second)]
            for each in found
        ],
        empty="neither side holds or declares a secret",
    )


def _result(each: Compared, sides: tuple[Side, Side]) -> str:
    match each.verdict:
        case Verdict.DIFFERS:
            return f"differs: {', '.join(each.fields)}"
        case Verdict.FIRST_ONLY:
            return f"only in {sides[0]}"
        case Verdict.SECOND_ONLY:
            return f"only in {sides[1]}"
        case _:
            return str(each.verdict)


def _version(held: Held) -> str:
    said = str(held.version or "-")
    if held.pending is not None:
        said += f", {held.pending} pending"
    return said + (", drifted" if held.drifted else "")


def _document(sides: tuple[Side, Side], found: list[Compared]) -> dict[str, object]:
    return {
        "first": str(sides[0]),
        "second": str(sides[1]),
        "secrets": [
            {
                "secret": each.name,
                "result": each.verdict,
                "fields": list(each.fields),
                "first": _held(each.first),
                "second": _held(each.second),
            }
            for each in found
        ],
    }


def _held(held: Held) -> dict[str, object]:
    return {"version": held.version, "pending": held.pending, "drifted": held.drifted}
