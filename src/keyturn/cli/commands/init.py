"""`keyturn init`: draft the manifest and make the store."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.config import Settings
from keyturn.app.start import Started, start_project
from keyturn.cli.exits import Exit
from keyturn.cli.options import json_option, talk_options
from keyturn.cli.output import Output
from keyturn.cli.prompt import ask_value
from keyturn.cli.verb import verb
from keyturn.core.value import SecretValue

EXAMPLES = """
keyturn init --from .env.example     # draft keyturn.toml, and make the store
keyturn init                         # make the store of a project that was cloned
keyturn init --passphrase            # no key file: ask for a passphrase each time
"""


@verb(examples=EXAMPLES)
@click.option(
    "--from",
    "example",
    type=click.Path(path_type=Path),
    help="An example of the .env; default: .env.example, if it is there.",
)
@click.option("--name", help="The project's name; default: the folder's.")
@click.option("--passphrase", is_flag=True, help="Take the root key from a passphrase.")
@click.option(
    "--project-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The project's folder; default: the working folder.",
)
@json_option
@talk_options
def command(
    example: Path | None,
    name: str | None,
    passphrase: bool,
    project_dir: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Draft keyturn.toml from an example of the .env, and make the store.

    Nothing is overwritten. The draft marks what it is unsure of with `# review`.
    The store lies in .keyturn/, its keys outside the repository; .gitignore gets
    the rules that keep both out of it.
    """
    output = Output(quiet=quiet)
    started = start_project(
        Settings.read(),
        folder=project_dir or Path.cwd(),
        example=example,
        name=name,
        ask_passphrase=_new_passphrase if passphrase else None,
    )
    if as_json:
        output.data(
            {
                "folder": str(started.folder),
                "keys": str(started.key_folder),
                "manifest_written": started.manifest_written,
                "store_made": started.store_made,
                "secrets": started.secrets,
                "settings": started.settings,
                "review": list(started.review),
                "findings": [str(problem) for problem in started.findings],
                "ignored": started.ignored,
                "not_ignored": started.not_ignored,
            }
        )
        return Exit.DONE
    _tell(output, started)
    return Exit.DONE


def _new_passphrase() -> SecretValue:
    return ask_value("New passphrase of the store")


def _tell(output: Output, started: Started) -> None:
    if started.manifest_written:
        output.say(
            f"keyturn.toml drafted: {started.secrets} secrets, {started.settings} plain settings"
        )
    for problem in started.findings:
        output.warn(str(problem))
    for item in started.review:
        output.say(f"review: {item}")
    if started.ignored:
        output.say(f".gitignore: added {', '.join(started.ignored)}")
    for item in started.not_ignored:
        output.warn(f"git would still take in {item}")
    output.say(f"store made in {started.folder / '.keyturn'}")
    output.say(f"keys in {started.key_folder}: back them up apart from the store")
    output.say("next: `keyturn import .env` or `keyturn generate`, then `keyturn run -- PROGRAM`")
