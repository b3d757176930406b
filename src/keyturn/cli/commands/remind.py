"""`keyturn remind`: tell the contacts what is due, stuck or waiting."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.reminders import Reminded, Telling, remind
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    environment_completion,
    json_option,
    opened,
    project_option,
    talk_options,
)
from keyturn.cli.output import Output, plain_text
from keyturn.cli.verb import verb
from keyturn.core.ids import EnvironmentName

EXAMPLES = """
keyturn remind
keyturn remind -e production --dry-run
keyturn remind -q
"""


@verb(examples=EXAMPLES)
@click.option(
    "-e",
    "--environment",
    "environments",
    multiple=True,
    shell_complete=environment_completion,
    help="Only this one; may be given again. Default: all of the manifest.",
)
@click.option("--dry-run", is_flag=True, help="Print the messages; tell nobody.")
@click.option(
    "--by-hand",
    is_flag=True,
    help="Leave out what `keyturn tick` rotates by itself, until it is a week overdue.",
)
@project_option
@json_option
@talk_options
def command(
    environments: tuple[str, ...],
    dry_run: bool,
    by_hand: bool,
    project_dir: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Tell the contacts of the manifest what is due, stuck, failed or waiting, each once.

    14 days and 7 days before the due date, on it, and each week after it. Where nobody
    is named in `[contacts]`, what there is to tell is printed.
    """
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, output=output) as session:
        chosen = [session.manifest.environment(name).name for name in dict.fromkeys(environments)]
        results = [
            remind(
                session,
                environment,
                dry_run=dry_run,
                shown=True,
                tended=by_hand,
            )
            for environment in chosen or list(session.manifest.environments)
        ]
    if as_json:
        output.data([_document(result) for result in results])
    else:
        for result in results:
            _show(output, result, dry_run=dry_run)
    for result in results:
        _complain(output, result)
    failed = any(result.failures for result in results)
    return Exit.UNREACHABLE if failed else Exit.DONE


def _show(output: Output, result: Reminded, *, dry_run: bool) -> None:
    where = result.environment
    if not result.notices:
        output.say(f"{where}: nothing needs attention")
        return
    if result.nobody and result.digest is not None:
        _print(output, result.digest.subject, result.digest.body)
        return
    if not result.tellings:
        output.say(f"{where}: nothing new; {len(result.notices)} told before")
    for telling in result.tellings:
        if dry_run:
            _print(output, f"to {telling.contact}: {telling.message.subject}", telling.message.body)
        elif telling.failure is None:
            count = len(telling.notices)
            noun = "notice" if count == 1 else "notices"
            output.say(f"{where}: told {telling.contact} by {telling.channel}: {count} {noun}")


def _print(output: Output, heading: str, body: str) -> None:
    output.text(plain_text(f"{heading}\n\n{body}", lines=True))


def _complain(output: Output, result: Reminded) -> None:
    if result.nobody and result.notices:
        output.warn(
            f"nobody was told of {len(result.notices)} in `{result.environment}`: the manifest "
            "names no `security` and no `on_call` in `[contacts]`"
        )
    for telling in result.tellings:
        if telling.failure is not None:
            output.warn(_failure(result.environment, telling))


def _failure(environment: EnvironmentName, telling: Telling) -> str:
    if telling.failure is None:
        return ""
    hint = f" ({telling.failure.hint})" if telling.failure.hint else ""
    return f"`{telling.contact}` of `{environment}` was not told: {telling.failure.message}{hint}"


def _document(result: Reminded) -> dict[str, object]:
    return {
        "environment": result.environment,
        "notices": [
            {
                "secret": notice.ref.name,
                "level": notice.level.value,
                "about": notice.about,
                "text": notice.text,
                "since": notice.since,
                "owner": notice.owner,
                "consumers": list(notice.consumers),
                "command": notice.command,
            }
            for notice in result.notices
        ],
        "told": [
            {
                "contact": telling.contact,
                "channel": telling.channel or None,
                "subject": telling.message.subject,
                "secrets": [notice.ref.name for notice in telling.notices],
                "error": None if telling.failure is None else telling.failure.message,
            }
            for telling in result.tellings
        ],
    }
