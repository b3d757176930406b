"""`keyturn init`: draft the manifest and make the store."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app.config import Settings
from keyturn.app.start import Started, start_project
from keyturn.app.updating import Updated, update_manifest
from keyturn.cli.exits import Exit
from keyturn.cli.options import json_option, talk_options
from keyturn.cli.output import Output
from keyturn.cli.prompt import ask_value
from keyturn.cli.verb import verb
from keyturn.core.value import SecretValue
from keyturn.errors import UsageError

EXAMPLES = """
keyturn init --from .env.example     # draft keyturn.toml, and make the store
keyturn init                         # make the store of a project that was cloned
keyturn init --passphrase            # no key file: ask for a passphrase each time
keyturn init --update --dry-run      # what the example declares and keyturn.toml does not
"""


_ALONE = "it changes keyturn.toml alone, and neither the project's name nor its keys"


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
    "--update", "updating", is_flag=True, help="Add to keyturn.toml what is new in the example."
)
@click.option("--dry-run", is_flag=True, help="With --update: show what would be added.")
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
    updating: bool,
    dry_run: bool,
    project_dir: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Draft keyturn.toml from an example of the .env, and make the store.

    Nothing is overwritten. The draft marks what it is unsure of with `# review`.
    The store lies in .keyturn/, its keys outside the repository; .gitignore gets
    the rules that keep both out of it.

    With `--update`, variables that the example has come to declare are drafted into
    the keyturn.toml that is there; what stands in it stays as it is.
    """
    output = Output(as_json=as_json, quiet=quiet)
    if updating:
        if name or passphrase:
            raise UsageError("`--update` takes neither `--name` nor `--passphrase`", hint=_ALONE)
        updated = update_manifest(
            project_dir or Path.cwd(),
            Settings.read().key_home,
            example=example,
            write=not dry_run,
        )
        return _show_update(output, updated, dry_run=dry_run)
    if dry_run:
        raise UsageError("`--dry-run` goes with `--update`", hint="add `--update`")
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


def _show_update(output: Output, updated: Updated, *, dry_run: bool) -> int:
    found = updated.update
    if output.as_json:
        output.data(_update_document(updated))
    elif dry_run:
        for line in updated.difference:
            output.line(line)
    for problem in found.findings:
        output.warn(str(problem))
    _tell_added(output, updated, "would be added" if dry_run else "added")
    for item in found.review:
        output.say(f"review: {item}")
    if found.absent:
        output.say(f"in keyturn.toml and not in `{updated.example}`: {', '.join(found.absent)}")
    if updated.written and found.secrets:
        output.say("next: `keyturn generate --missing`, or `keyturn set NAME`")
    return Exit.DONE


def _tell_added(output: Output, updated: Updated, verb: str) -> None:
    found = updated.update
    for one in found.secrets:
        output.say(f"{verb}: secret `{one.name}` ({one.kind}): {', '.join(one.variables)}")
    if found.settings:
        output.say(f"{verb}: settings {', '.join(found.settings)}")
    if not updated.difference:
        output.say(f"nothing of `{updated.example}` is to be added to keyturn.toml")


def _update_document(updated: Updated) -> dict[str, object]:
    found = updated.update
    return {
        "manifest": str(updated.manifest),
        "example": str(updated.example),
        "written": updated.written,
        "secrets": [one.name for one in found.secrets],
        "settings": list(found.settings),
        "review": [str(item) for item in found.review],
        "findings": [str(problem) for problem in found.findings],
        "absent": list(found.absent),
    }


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
