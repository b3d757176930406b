"""`keyturn import`: take the values of a real .env into the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from keyturn.app.secrets import Imported, import_values
from keyturn.app.settings import TakenSettings, take_settings
from keyturn.app.shred import kept_nowhere, shred
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
from keyturn.cli.prompt import confirm, has_terminal
from keyturn.cli.verb import verb
from keyturn.core.ids import VariableName
from keyturn.errors import Conflict, KeyturnError, UsageError
from keyturn.manifest import EnvFile, parse_env

EXAMPLES = """
keyturn import .env
keyturn import .env.production -e production --reason 'moving in' --shred
"""

_MAX_BYTES = 1024 * 1024


@verb(examples=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--shred/--no-shred",
    "shred_file",
    default=None,
    help="Remove the file afterwards, or do not ask.",
)
@click.option(
    "--settings/--no-settings",
    "with_settings",
    default=True,
    help="Take plain settings into keyturn.toml too (the default), or leave it alone.",
)
@environment_option
@reason_option
@yes_option
@json_option
@talk_options
def command(
    file: Path,
    shred_file: bool | None,
    with_settings: bool,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    yes: bool,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Take the secrets of the .env FILE into the store, in one transaction.

    Variables that the manifest declares as secrets go to the store. Plain settings
    that differ are written into keyturn.toml, for this environment. The others are
    listed. Nothing is printed of any value.
    """
    output = Output(quiet=quiet)
    parsed = parse_env(_read(file), file=str(file))
    for problem in parsed.problems:
        output.warn(str(problem))
    if not parsed.entries:
        raise UsageError(f"`{file}` holds no `NAME=value` line", hint="nothing was imported")
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        where = pick_environment(session, environment)
        confirm_change(session, where, f"import `{file}` into `{where}`?", yes=yes)
        done = import_values(session, where, parsed)
        given = {VariableName(entry.name): entry.value for entry in parsed.live}
        settings = take_settings(session, where, given, write=with_settings)
        nowhere = kept_nowhere(session, where, parsed)
    if as_json:
        output.data(_document(parsed, done, settings))
    else:
        _tell(output, where, parsed, done, settings)
    taken = bool(done.stored or done.unchanged or settings.written or settings.unchanged)
    unread = [f"line {problem.line}" for problem in parsed.unread]
    left = _Left([*done.unknown, *settings.refused, *unread], nowhere)
    _offer_shred(file, output, wanted=shred_file, taken=taken, left=left)
    if settings.refused:
        return Exit.BAD
    return Exit.DONE if taken else Exit.NOTHING


def _document(parsed: EnvFile, done: Imported, settings: TakenSettings) -> dict[str, object]:
    return {
        "stored": dict(done.stored),
        "unchanged": list(done.unchanged),
        "settings": settings.written,
        "settings_unchanged": settings.unchanged,
        "settings_left": settings.refused,
        "unknown": list(done.unknown),
        "partial": list(done.partial),
        "empty": list(done.empty),
        "problems": [str(problem) for problem in parsed.problems],
    }


def _tell(
    output: Output, where: str, parsed: EnvFile, done: Imported, settings: TakenSettings
) -> None:
    for name, number in done.stored.items():
        output.say(f"{where}/{name}: version {number} is current")
    if done.unchanged:
        output.say(f"unchanged: {', '.join(done.unchanged)}")
    for name in done.partial:
        output.warn(f"`{name}` has some of its fields only; `keyturn test` names the others")
    if done.empty:
        output.warn(f"empty in the file, and taken as empty: {', '.join(done.empty)}")
    if settings.written:
        output.say(f"keyturn.toml: settings for `{where}` taken: {', '.join(settings.written)}")
    if settings.refused:
        output.warn(
            f"settings that keyturn.toml says otherwise, not taken: {', '.join(settings.refused)}: "
            "`run` would use keyturn.toml's; declare what is a secret under `[secrets]`, take it "
            "out of `[config]`, and import again"
        )
    if done.unknown:
        output.warn(
            f"not in the manifest, not taken: {', '.join(done.unknown)}: declare them in "
            "keyturn.toml and import again"
        )
    literal = [entry.name for entry in parsed.live if entry.interpolates]
    if literal:
        output.warn(
            f"taken as written, with the `${{NAME}}` in them, in whose place some readers of an "
            f".env put a value: {', '.join(literal)}"
        )


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"`{file}` cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"`{file}` is over {_MAX_BYTES} bytes", hint="an .env file is smaller")
    return data


@dataclass(frozen=True, slots=True)
class _Left:
    """
    What of a file is in the store's keeping nowhere, so that the file must stay.

    Args:
        refused: Names and lines that were not taken.
        nowhere: Values in comments and lines that do not count.
    """

    refused: Sequence[str]
    nowhere: Sequence[str]

    @property
    def hint(self) -> str:
        ways = []
        if self.refused:
            ways.append("declare them in keyturn.toml")
        if self.nowhere:
            ways.append(
                "store with `keyturn set` what is needed of the lines that do not count, and "
                "remove them"
            )
        return f"{'; '.join(ways)}{';' if self.nowhere else ' and'} import again"


def _offer_shred(
    file: Path, output: Output, *, wanted: bool | None, taken: bool, left: _Left
) -> None:
    if not taken or wanted is False:
        return
    names = [*left.refused, *left.nowhere]
    if names:
        # Their only copy may be this one.
        text = f"`{file}` is kept: it holds what was not taken: {', '.join(names)}"
        if wanted:
            raise Conflict(text, hint=left.hint)
        output.say(text)
        return
    if wanted is None:
        if not has_terminal():
            output.say(f"`{file}` still holds the values: remove it, or give `--shred`")
            return
        try:
            confirm(f"overwrite and remove `{file}` now?", yes=False)
        except KeyturnError:
            output.say(f"`{file}` is left as it is, and still holds the values")
            return
    shred(file)
    output.say(
        f"`{file}` is overwritten and removed; copies in backups, snapshots, "
        "editors and version control are not"
    )
