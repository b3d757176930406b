"""`keyturn backup`: seal all that the stores hold into one file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import click

from keyturn.app.backing_up import (
    Planned,
    Written,
    pick_recipients,
    plan_backup,
    write_backup,
    written_file,
)
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    environment_completion,
    json_option,
    opened,
    project_option,
    reason_option,
    talk_options,
)
from keyturn.cli.output import Output
from keyturn.cli.progress import CountDisplay
from keyturn.cli.verb import verb
from keyturn.errors import Unavailable, UsageError
from keyturn.fast import silence

EXAMPLES = """
keyturn backup --to clipper.age --recipient age1...
keyturn backup -e production --to "clipper-$(date -I).age" --with-audit
keyturn backup --to - --recipients-file team.txt | ssh backup@host 'cat > clipper.age'
"""
_STDOUT = "-"


@verb(examples=EXAMPLES)
@click.option("--to", "target", required=True, help="The file to write; `-` for standard output.")
@click.option("--recipient", "recipients", multiple=True, help="Who can open it: `age1...`.")
@click.option(
    "--recipients-file",
    type=click.Path(path_type=Path),
    help="A file with more of them, one a line.",
)
@click.option(
    "-e",
    "--environment",
    "environments",
    multiple=True,
    shell_complete=environment_completion,
    help="This one alone; can be given several times. Default: all.",
)
@click.option("--all", "everything", is_flag=True, help="All environments, as without `-e`.")
@click.option("--with-audit", is_flag=True, help="Put the whole audit log in as well.")
@click.option("--replace", "replace_old", is_flag=True, help="Take the place of an older file.")
@project_option
@reason_option
@json_option
@talk_options
def command(
    target: str,
    recipients: tuple[str, ...],
    recipients_file: Path | None,
    environments: tuple[str, ...],
    everything: bool,
    with_audit: bool,
    replace_old: bool,
    project_dir: Path | None,
    reason: str | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Seal every version of every secret of every store into one age file.

    Whoever holds the private key of one recipient can restore it; no such key is needed
    to make it. keyturn.toml can name recipients for every backup, under `[backup]`.
    Nothing is written in clear, and the file is whole or not there. Exit code 1 where a
    secret is damaged and therefore not in it.
    """
    output = Output(quiet=quiet)
    _check(target, environments, everything=everything, as_json=as_json)
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        wanted = [session.manifest.environment(name).name for name in environments]
        chosen = pick_recipients(session, recipients, recipients_file)
        plan = plan_backup(session, wanted)
        total = sum(len(each.names) for each in plan)
        if not total:
            output.say("the stores hold no secret, so nothing was written", important=True)
            return Exit.NOTHING
        with CountDisplay(output, "backup", total) as shown:
            made = write_backup(
                session,
                plan,
                chosen,
                output=_writer(target, replace_old=replace_old),
                name="standard output" if target == _STDOUT else Path(target).name,
                with_audit=with_audit,
                progress=shown.advance,
            )
    _tell(output, target, made, plan, chosen)
    if as_json:
        output.data(_document(target, made, plan, chosen))
    return Exit.BAD if made.damaged else Exit.DONE


def _check(target: str, environments: Sequence[str], *, everything: bool, as_json: bool) -> None:
    if everything and environments:
        raise UsageError("`--all` and `-e` exclude each other", hint="leave one of them out")
    if target != _STDOUT:
        return
    if as_json:
        raise UsageError("`--json` and `--to -` exclude each other", hint="name a file with `--to`")
    if sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(
            "a backup is not written to a terminal", hint="name a file with `--to`, or use a pipe"
        )


def _writer(target: str, *, replace_old: bool) -> AbstractContextManager[Callable[[bytes], object]]:
    if target == _STDOUT:
        return _standard_output()
    return written_file(Path(target), replace_old=replace_old)


@contextlib.contextmanager
def _standard_output() -> Iterator[Callable[[bytes], object]]:
    stream = sys.stdout.buffer
    try:
        yield stream.write
        stream.flush()
    except OSError as error:
        silence(1)
        # Also where the reader went away: what it has is no backup.
        raise Unavailable(
            f"standard output took less than the whole backup: {error.strerror}",
            hint="look at the program that reads it, and throw away what it has written",
            code="backup.unavailable",
        ) from error


def _tell(
    output: Output,
    target: str,
    made: Written,
    plan: Sequence[Planned],
    recipients: Sequence[str],
) -> None:
    for label, error in made.damaged:
        output.warn(f"`{label}` is damaged and not in the backup: {error.message}")
    if made.drifted:
        output.warn(
            f"changed by others, so the last value of Keyturn's is in the backup: "
            f"{_listed(made.drifted)}: see `keyturn drift`"
        )
    if made.rotating:
        output.say(f"a rotation is open, and its new version is in it: {_listed(made.rotating)}")
    unused = [str(each.part.side) for each in plan if not each.part.in_use and each.names]
    if unused:
        output.say(f"in it as well, though no environment uses it: {_listed(unused)}")
    counts = made.counts
    where = "" if target == _STDOUT else f"`{target}`: "
    output.say(
        f"{where}{counts.secrets} secrets, {counts.versions} versions, "
        f"for {len(recipients)} recipients, signed with {made.public_key}; "
        "`keyturn restore FILE --identity KEYFILE --rehearse` proves that it restores"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown  # noqa: PLR2004 - one line


def _document(
    target: str, made: Written, plan: Sequence[Planned], recipients: Sequence[str]
) -> dict[str, object]:
    return {
        "file": target,
        "sha256": made.sha256,
        "public_key": made.public_key,
        "recipients": list(recipients),
        "parts": [
            {
                "store": each.part.store,
                "environment": each.part.environment,
                "in_use": each.part.in_use,
                "secrets": len(each.names),
            }
            for each in plan
        ],
        "secrets": made.counts.secrets,
        "versions": made.counts.versions,
        "log_lines": made.counts.log_lines,
        "damaged": [{"secret": name, "error": error.code} for name, error in made.damaged],
        "drifted": made.drifted,
        "rotating": made.rotating,
    }
