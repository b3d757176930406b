"""`keyturn import`: take the values of a real .env into the store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from keyturn.app.adopting import Adopting, begin_adopting, renew_bundle
from keyturn.app.earlier import older_note
from keyturn.app.reading import is_handed_over, read_plain
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
from keyturn.core.model import SecretRef
from keyturn.errors import Conflict, KeyturnError, UsageError
from keyturn.manifest import EnvFile, parse_env

EXAMPLES = """
keyturn import .env
keyturn import .env.production -e production --reason 'moving in' --shred
sops decrypt .env.enc | keyturn import -
"""

_MAX_BYTES = 1024 * 1024
_TOO_LARGE = (
    "1 MiB is the most that an .env may have; store a large value with "
    "`keyturn set NAME --from-file FILE`, and import the rest"
)
_STDIN = Path("-")


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
    help="Take settings and new variables into keyturn.toml too (the default), or leave it alone.",
)
@click.option(
    "--force-old",
    is_flag=True,
    help="Take values of the file that an earlier version had, in place of the current ones.",
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
    force_old: bool,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    yes: bool,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Take the secrets of the .env FILE, or of standard input (`-`), into the store.

    All of them are one transaction.

    Variables that the manifest declares as secrets go to the store. Plain settings
    that differ are written into keyturn.toml, for this environment. What the manifest
    does not know is declared in it, as a secret where that is in doubt; so is a setting
    whose value may be a secret. What cannot be taken is listed, with exit code 1: `run`
    would miss it. Nothing is printed of any value.

    An .env that is kept grows old. A value that an earlier version of a secret had is
    named and left alone, and what is current stays, unless `--force-old` is given.
    """
    output = Output(quiet=quiet)
    stays = file != _STDIN and not is_handed_over(file)
    if shred_file and not stays:
        raise UsageError(f"`{file}` is no file that could be removed", hint="leave `--shred` out")
    parsed = parse_env(_read(file), file=str(file) if file != _STDIN else "standard input")
    for problem in parsed.problems:
        output.warn(str(problem))
    if not parsed.entries:
        raise UsageError(f"`{file}` holds no `NAME=value` line", hint="nothing was imported")
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        where = pick_environment(session, environment)
        confirm_change(session, where, f"import `{file}` into `{where}`?", yes=yes)
        adopting = begin_adopting(session, where, parsed, write=with_settings)
        done = import_values(session, where, parsed, force_old=force_old)
        adopting.finish()
        given = {VariableName(entry.name): entry.value for entry in parsed.live}
        write = with_settings and not adopting.unwritable
        settings = take_settings(session, where, given, write=write)
        if adopting.switched or settings.written:
            renew_bundle(session, where)
        nowhere = kept_nowhere(session, where, parsed)
        session.notes += [
            older_note(session, SecretRef(where, name), found) for name, found in done.older.items()
        ]
    unknown = [n for n in adopting.missed(done.unknown) if n not in settings.refused]
    if as_json:
        output.data(_document(parsed, done, settings, adopting, unknown))
    else:
        _tell(output, where, parsed, done, settings)
        _tell_adopted(output, adopting, unknown)
    kept = bool(done.unchanged or done.older or settings.unchanged)
    taken = bool(done.stored or settings.written) or kept
    unread = [f"line {problem.line}" for problem in parsed.unread]
    left = _Left([*unknown, *settings.refused, *unread], nowhere)
    if stays:
        _offer_shred(file, output, wanted=shred_file, taken=taken, left=left)
    if settings.refused or unknown or parsed.lost:
        return Exit.BAD
    return Exit.DONE if taken else Exit.NOTHING


def _document(
    parsed: EnvFile,
    done: Imported,
    settings: TakenSettings,
    adopting: Adopting,
    unknown: Sequence[VariableName],
) -> dict[str, object]:
    new = adopting.written
    lines = adopting.adoption.lines if adopting.failed and adopting.adoption else ()
    return {
        "stored": dict(done.stored),
        "unchanged": list(done.unchanged),
        "older": {name: found.number for name, found in done.older.items()},
        "declared": {one.name: list(one.variables) for one in new.secrets} if new else {},
        "moved": list(new.moved) if new else [],
        "to_declare": list(lines),
        "settings": [*(new.settings if new else ()), *settings.written],
        "settings_unchanged": [
            name for name in settings.unchanged if new is None or name not in new.settings
        ],
        "settings_left": settings.refused,
        "unknown": list(unknown),
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
    literal = [entry.name for entry in parsed.live if entry.interpolates]
    if literal:
        output.warn(
            f"taken as written, with the `${{NAME}}` in them, in whose place some readers of an "
            f".env put a value: {', '.join(literal)}"
        )


def _tell_adopted(output: Output, adopting: Adopting, unknown: Sequence[VariableName]) -> None:
    new = adopting.written
    if new is not None:
        reasons = {note.name: note.reason for note in reversed(new.review)}
        for one in new.secrets:
            was = " and no plain setting any more" if set(one.variables) & set(new.moved) else ""
            why = f": {reasons[one.name]}" if one.name in reasons else ""
            names = ", ".join(one.variables)
            output.say(f"keyturn.toml: {names} declared as the secret `{one.name}`{was}{why}")
        if new.settings:
            output.say(f"keyturn.toml: declared as plain settings: {', '.join(new.settings)}")
    if unknown:
        output.warn(
            f"not in the manifest, not taken: {', '.join(unknown)}: `run` would miss them; "
            "declare them in keyturn.toml, or set them where `keyturn run` is started"
        )
    for note in adopting.adoption.review if adopting.adoption is not None else ():
        if note.name in unknown:
            output.say(f"review: {note}")
    if adopting.failed:
        _tell_lines(output, adopting)


def _tell_lines(output: Output, adopting: Adopting) -> None:
    found = adopting.adoption
    if found is None:
        output.warn(adopting.why)
        return
    output.warn(f"{adopting.why}; to be added to it, before the next import:")
    for line in found.lines:
        output.say(f"    {line}")
    if found.moved:
        output.say(f"and to be taken out of `[config]`: {', '.join(found.moved)}")


def _read(file: Path) -> bytes:
    if file == _STDIN:
        return _read_stdin()
    try:
        return read_plain(file, _MAX_BYTES, hint="name an .env file", too_large=_TOO_LARGE)
    except FileNotFoundError as error:
        raise UsageError(f"`{file}` cannot be read: {error.strerror}") from None


def _read_stdin() -> bytes:
    if sys.stdin is None:
        raise UsageError("standard input is closed", hint="pipe the .env into it, or name a file")
    data = sys.stdin.buffer.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise UsageError(f"standard input is over {_MAX_BYTES} bytes", hint=_TOO_LARGE)
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
