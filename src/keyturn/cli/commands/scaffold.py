"""`keyturn scaffold`: generate what the manifest already says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from keyturn.app.config import Settings
from keyturn.app.scaffolding import FAMILIES, Scaffolded, State, Wishes, scaffold
from keyturn.cli.exits import Exit
from keyturn.cli.options import environment_completion, json_option, project_option, talk_options
from keyturn.cli.output import Output
from keyturn.cli.verb import verb
from keyturn.errors import UsageError

EXAMPLES = """
keyturn scaffold --dry-run                   # what would be written, as a difference
keyturn scaffold                             # write it
keyturn scaffold --check                     # for CI: exit code 1 where a file is not current
keyturn scaffold systemd runbook --at /srv/shop --user shop
keyturn scaffold cron kubernetes             # only where they are named, or there already
"""


@verb(examples=EXAMPLES)
@click.argument("what", nargs=-1, type=click.Choice(FAMILIES))
@click.option("--check", is_flag=True, help="Write nothing; say whether each file is current.")
@click.option("--dry-run", is_flag=True, help="Write nothing; show the differences.")
@click.option("--replace", is_flag=True, help="Write also over a file that Keyturn did not write.")
@click.option(
    "-e",
    "--environment",
    "environment",
    shell_complete=environment_completion,
    help="Whose timers and commands; default: production, or the protected one.",
)
@click.option("--at", "folder", help="The project's folder where it runs; default: /opt/PROJECT.")
@click.option("--program", help="The command there; default: /usr/local/bin/keyturn.")
@click.option("--user", help="Whose the store is there; default: the project's name.")
@click.option("--key-home", help="KEYTURN_HOME there; default: /var/lib/PROJECT/keyturn.")
@click.option("--on-failure", help="A systemd unit to start when one of these fails.")
@project_option
@json_option
@talk_options
def command(
    what: tuple[str, ...],
    check: bool,
    dry_run: bool,
    replace: bool,
    environment: str | None,
    folder: str | None,
    program: str | None,
    user: str | None,
    key_home: str | None,
    on_failure: str | None,
    project_dir: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Write the examples, scripts, units, schedule and runbook that follow from keyturn.toml.

    WHAT is one or more of env-example, scripts, systemd, cron, kubernetes, schedule,
    runbook. What a person wrote is left alone, unless you say `--replace`; in
    .env.example only a marked part is Keyturn's. The same manifest and options give
    the same bytes; give `--check` the options that the files were written with. With
    it, exit code 1 says that a file is not current.
    """
    if replace and (check or dry_run):
        raise UsageError(
            "`--check` and `--dry-run` write nothing, and `--replace` writes", hint="give one"
        )
    output = Output(as_json=as_json, quiet=quiet)
    wishes = Wishes(what, environment, folder, program, user, key_home, on_failure)
    write = not (check or dry_run)
    results = scaffold(project_dir, Settings.read().key_home, wishes, write=write, replace=replace)
    _tell(output, results, write=write)
    if not results:
        return Exit.NOTHING
    wrong = any(each.state is not State.CURRENT for each in results)
    return Exit.BAD if check and wrong else Exit.DONE


def _tell(output: Output, results: list[Scaffolded], *, write: bool) -> None:
    if output.as_json:
        output.data([_document(each) for each in results])
        return
    output.table(
        ["family", "file", "was" if write else "is"],
        [[each.family, each.path, each.state] for each in results],
        empty="the manifest has no cause for any of it",
    )
    if not write:
        for each in results:
            for line in each.difference:
                output.line(line)
            if each.mode is not None:
                output.line(f"{each.path}: its permission bits should be {each.mode:o}")
    counts = Counter(each.state for each in results)
    words = [f"{counts[state]} {state}" for state in State if counts[state]]
    if words:
        output.say(", ".join(words), important=not write and counts.keys() != {State.CURRENT})


def _document(each: Scaffolded) -> dict[str, object]:
    return {
        "family": each.family,
        "file": each.path,
        "state": each.state,
        "written": each.written,
        "mode": None if each.mode is None else f"{each.mode:o}",
        "difference": list(each.difference),
    }
