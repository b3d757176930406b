"""`keyturn sync`: bring the secrets of an environment to another store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from keyturn.app.session import Session
from keyturn.app.sides import Side, pick_sides
from keyturn.app.sync_plan import Planned, Way
from keyturn.app.syncing import Synced, plan_sync, require_one_environment, sync
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    confirm_change,
    environment_option,
    json_option,
    opened,
    pick_environment,
    reason_option,
    talk_options,
    yes_option,
)
from keyturn.cli.output import Output
from keyturn.cli.progress import CountDisplay
from keyturn.cli.verb import verb

EXAMPLES = """
keyturn sync local team -e production --dry-run
keyturn sync local team -e production --reason 'moving to OpenBao'
keyturn sync team:production local:production --overwrite
"""


@verb(examples=EXAMPLES)
@click.argument("source")
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option(
    "--overwrite", is_flag=True, help="Replace values of TARGET that are newer or drifted as well."
)
@environment_option
@reason_option
@yes_option
@json_option
@talk_options
def command(
    source: str,
    target: str,
    dry_run: bool,
    overwrite: bool,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    yes: bool,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Bring the secrets of an environment from the store SOURCE to the store TARGET.

    Each is a store (of the environment that `-e` names), or STORE:ENVIRONMENT. Versions
    keep their numbers, and each is read back and compared. Nothing is deleted anywhere.
    Run it again after an interruption: it does what is left. keyturn.toml is not
    changed: the last line says what makes the environment use the other store.
    Exit code 1 where something is in the way.
    """
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        where = pick_environment(session, environment)
        sides = pick_sides(session.manifest, source, target, where)
        require_one_environment(*sides)
        if not dry_run:
            session.access.require_reason(sides[1].environment)
        plan = plan_sync(session, *sides, overwrite=overwrite)
        if not as_json:
            _show(output, plan)
        done = None if dry_run else _do(session, sides, plan, output, yes=yes)
        uses_it = session.store.settings(sides[1].environment).name == sides[1].store
    if as_json:
        output.data(_document(sides, plan, done))
    if done is not None:
        _tell(output, sides, done, uses_it=uses_it)
    return _exit(plan, done)


def _do(
    session: Session,
    sides: tuple[Side, Side],
    plan: Sequence[Planned],
    output: Output,
    *,
    yes: bool,
) -> Synced:
    source, target = sides
    todo = [each for each in plan if each.is_work]
    if todo:
        question = f"write {_secrets(len(todo))} of `{source}` to `{target}`?"
        confirm_change(session, target.environment, question, yes=yes)
    with CountDisplay(output, f"{source} to {target}", len(todo)) as shown:
        return sync(session, source, target, plan, progress=shown.advance)


def _show(output: Output, plan: Sequence[Planned]) -> None:
    rows = [each for each in plan if each.way is not Way.SAME or each.why]
    if rows:
        output.table(
            ["secret", "what", "versions", "why"],
            [[each.name, each.way, each.versions or "-", each.why or "-"] for each in rows],
            right=["versions"],
        )
    counts = Counter(each.way for each in plan)
    told = ", ".join(f"{counts[way]} {way}" for way in Way if counts[way])
    output.say(told or "the source holds no secret of this environment")


def _tell(output: Output, sides: tuple[Side, Side], done: Synced, *, uses_it: bool) -> None:
    source, target = sides
    for name, error in done.failed:
        output.say(f"{target}: `{name}` was left as it was:", important=True)
        output.error(error)
    if done.moved:
        output.say(f"{target}: {_secrets(len(done.moved))} written, read back and compared")
    if done.changed:
        names = ", ".join(f"`{name}`" for name in done.changed[:5])
        output.warn(f"changed in `{source}` meanwhile: {names}: run the command again")
    if not uses_it:
        output.say(
            f"`{target.environment}` still uses another store; in keyturn.toml, "
            f'`store = "{target.store}"` under `[environments.{target.environment}]` changes that'
        )


def _secrets(count: int) -> str:
    return "1 secret" if count == 1 else f"{count} secrets"


def _exit(plan: Sequence[Planned], done: Synced | None) -> Exit:
    if not plan:
        return Exit.NOTHING
    failed = done is not None and (done.failed or done.changed)
    return Exit.BAD if failed or any(each.way is Way.CONFLICT for each in plan) else Exit.DONE


def _document(
    sides: tuple[Side, Side], plan: Sequence[Planned], done: Synced | None
) -> dict[str, object]:
    return {
        "source": str(sides[0]),
        "target": str(sides[1]),
        "secrets": [
            {
                "secret": each.name,
                "what": each.way,
                "versions": each.versions,
                "why": each.why or None,
            }
            for each in plan
        ],
        "written": None if done is None else [each.name for each in done.moved],
        "failed": []
        if done is None
        else [{"secret": name, "error": error.code} for name, error in done.failed],
        "changed": [] if done is None else list(done.changed),
    }
