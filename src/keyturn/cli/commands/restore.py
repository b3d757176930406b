"""`keyturn restore`: list, rehearse or bring back what a backup holds."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from keyturn.app.backing_up import written_file
from keyturn.app.backup_file import (
    Summary,
    check_pinned,
    check_writer,
    inspect_backup,
    read_identities,
)
from keyturn.app.config import Settings
from keyturn.app.project import find_project
from keyturn.app.rehearsing import Rehearsed, rehearse_recorded
from keyturn.app.restoring import (
    Restored,
    Steps,
    audit_lines,
    make_place,
    plan_restore,
    protected_in,
    require_same_project,
    restore,
)
from keyturn.app.session import Session, read_manifest
from keyturn.app.sync_plan import Way
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    environment_completion,
    json_option,
    opened,
    project_option,
    reason_option,
    talk_options,
    yes_option,
)
from keyturn.cli.output import Output
from keyturn.cli.progress import CountDisplay
from keyturn.cli.prompt import confirm
from keyturn.cli.verb import verb
from keyturn.core.value import SecretValue
from keyturn.errors import AccessDenied, NotFound, UsageError

EXAMPLES = """
keyturn restore clipper.age --identity key.txt --list
keyturn restore clipper.age --identity key.txt --rehearse
keyturn restore clipper.age --identity key.txt --reason 'new machine'
"""
_MAX_IDENTITY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line said."""

    file: Path
    identities: Sequence[SecretValue]
    environments: Sequence[str]
    overwrite: Sequence[str]
    as_project: str | None
    public_key: str | None
    project_dir: Path | None
    reason: str | None
    dry_run: bool
    yes: bool
    as_json: bool
    output: Output


@verb(examples=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--identity",
    required=True,
    help="The file with the age identity of a recipient; `-` for stdin.",
)
@click.option("--list", "only_list", is_flag=True, help="Show what is in it; no value.")
@click.option(
    "--rehearse", "only_rehearse", is_flag=True, help="Restore to a scratch place, and compare."
)
@click.option(
    "--audit-to",
    type=click.Path(path_type=Path),
    help="Write the audit log that is in it to this file, for `keyturn audit verify`.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")
@click.option(
    "-e",
    "--environment",
    "environments",
    multiple=True,
    shell_complete=environment_completion,
    help="This one alone; can be given several times. Default: all.",
)
@click.option(
    "--overwrite",
    multiple=True,
    help="A secret, NAME or ENVIRONMENT/NAME, that takes the place of another value.",
)
@click.option("--as-project", help="The project it is a backup of, where that is another one.")
@click.option("--public-key", help="The key, in hex, that must have signed it.")
@project_option
@reason_option
@yes_option
@json_option
@talk_options
def command(
    file: Path,
    identity: str,
    only_list: bool,
    only_rehearse: bool,
    audit_to: Path | None,
    dry_run: bool,
    environments: tuple[str, ...],
    overwrite: tuple[str, ...],
    as_project: str | None,
    public_key: str | None,
    project_dir: Path | None,
    reason: str | None,
    yes: bool,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Bring back what the backup FILE has and the stores have not.

    Versions keep their numbers. Where there is no project, one is made here, with new
    keys. Nothing that is there gives way: what is newer is left, another value in the
    same place is a conflict, unless `--overwrite` names the secret. The file is read to
    its end before anything is written, and each secret is read back and compared. Run
    it again after an interruption: it does what is left. Exit code 1 where something is
    in the way, or a rehearsal found a fault.
    """
    if sum((only_list, only_rehearse, audit_to is not None, dry_run)) > 1:
        raise UsageError(
            "`--list`, `--rehearse`, `--audit-to` and `--dry-run` exclude each other",
            hint="run them one after the other",
        )
    asked = _Asked(
        file=file,
        identities=read_identities(Path(identity), _standard_input() if identity == "-" else None),
        environments=environments,
        overwrite=overwrite,
        as_project=as_project,
        public_key=public_key,
        project_dir=project_dir,
        reason=reason,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
        output=Output(quiet=quiet),
    )
    if audit_to is not None:
        return _audit(asked, audit_to)
    summary = inspect_backup(file, asked.identities)
    if public_key is not None:
        # Before anything of it is believed.
        check_pinned(summary, public_key)
    if only_list:
        return _list(asked, summary)
    return _rehearse(asked, summary) if only_rehearse else _restore(asked, summary)


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise UsageError("standard input is closed", hint="pipe the identity into it")
    return sys.stdin.buffer.read(_MAX_IDENTITY_BYTES)


# ---------------------------------------------------------------------- looking at it


def _audit(asked: _Asked, target: Path) -> Exit:
    # Looked at first: what is written then is known to be whole.
    summary = inspect_backup(asked.file, asked.identities)
    if not summary.end.counts.log_lines:
        asked.output.say(
            "there is no audit log in it: `keyturn backup --with-audit` puts it in", important=True
        )
        return Exit.NOTHING
    with written_file(target, replace_old=False) as write:
        count = audit_lines(asked.file, asked.identities, write)
    asked.output.say(f"`{target}`: {count} lines; `keyturn audit verify {target}` checks them")
    return Exit.DONE


def _list(asked: _Asked, summary: Summary) -> Exit:
    output = asked.output
    if asked.as_json:
        output.data(_listed(summary))
        return Exit.DONE
    output.say(
        f"a backup of `{summary.head.project}`, made {summary.head.time} by Keyturn "
        f"{summary.head.keyturn} from store {summary.head.store}; the audit log had "
        f"{summary.audit.seq} records, signed with {summary.audit.public_key}"
    )
    output.table(
        ["secret", "current", "versions", "note"],
        [
            [
                each.label,
                each.state.current or "-",
                len(each.digests),
                ", ".join(_notes(each.part.in_use, each.drifted, each.rotating)) or "-",
            ]
            for each in summary.secrets
        ],
        right=["current", "versions"],
        empty="there is no secret in it",
    )
    for label, code in summary.damaged:
        output.warn(f"`{label}` was damaged when it was made, and is not in it ({code})")
    return Exit.DONE


def _notes(in_use: bool, drifted: bool, rotating: bool) -> list[str]:
    said = {"not in use": not in_use, "changed by others": drifted, "rotation open": rotating}
    return [text for text, holds in said.items() if holds]


def _listed(summary: Summary) -> dict[str, object]:
    return {
        "project": summary.head.project,
        "store": summary.head.store,
        "time": summary.head.time,
        "keyturn": summary.head.keyturn,
        "sha256": summary.end.sha256,
        "manifest_sha256": summary.manifest.sha256,
        "audit": {
            "seq": summary.audit.seq,
            "head": summary.audit.head,
            "public_key": summary.audit.public_key,
            "log_lines": summary.end.counts.log_lines,
        },
        "secrets": [
            {
                "secret": each.name,
                "store": each.part.store,
                "environment": each.part.environment,
                "in_use": each.part.in_use,
                "current": each.state.current,
                "pending": each.state.pending,
                "previous": each.state.previous,
                "versions": len(each.digests),
                "drifted": each.drifted,
                "rotating": each.rotating,
            }
            for each in summary.secrets
        ],
        "damaged": [{"secret": label, "error": code} for label, code in summary.damaged],
    }


# ---------------------------------------------------------------------- rehearsing it


def _rehearse(asked: _Asked, summary: Summary) -> Exit:
    output = asked.output
    try:
        find_project(asked.project_dir, Settings.read().key_home).store_id()
    except NotFound:
        with CountDisplay(output, "rehearsal", len(summary.secrets)) as shown:
            found = rehearse_recorded(
                None, asked.file, asked.identities, summary, progress=shown.advance
            )
        output.warn("there is no project here, so this is recorded nowhere")
        return _rehearsed(asked, summary, found, proven=None)
    with opened(project_dir=asked.project_dir, reason=asked.reason, output=output) as session:
        require_same_project(summary, session.manifest, asked.as_project)
        proven = _who(session, summary, asked)
        with CountDisplay(output, "rehearsal", len(summary.secrets)) as shown:
            found = rehearse_recorded(
                session, asked.file, asked.identities, summary, progress=shown.advance
            )
    return _rehearsed(asked, summary, found, proven=proven)


def _rehearsed(asked: _Asked, summary: Summary, found: Rehearsed, *, proven: bool | None) -> Exit:
    output = asked.output
    if asked.as_json:
        output.data(
            {
                "sha256": summary.end.sha256,
                "time": summary.head.time,
                "secrets": found.secrets,
                "versions": found.versions,
                "wrong": list(found.wrong),
                "damaged": [label for label, _ in summary.damaged],
                "signed_by_this_store": proven,
                "recorded": proven is not None,
            }
        )
    for label in found.wrong:
        output.warn(f"`{label}` did not come back as it is in the file")
    for label, _ in summary.damaged:
        output.warn(f"`{label}` was damaged when it was made, and is not in it")
    if not found.secrets:
        output.say("there is no secret in it", important=True)
        return Exit.NOTHING
    if found.wrong or summary.damaged:
        return Exit.BAD
    place = "memory" if found.in_memory else "a folder that is gone"
    output.say(
        f"rehearsed in {place}: {found.secrets} secrets and {found.versions} versions came back "
        "with the same numbers, stages and digests"
    )
    return Exit.DONE


# ---------------------------------------------------------------------- bringing it back


def _restore(asked: _Asked, summary: Summary) -> Exit:
    output = asked.output
    folder = _prepared(asked, summary)
    if folder is None:
        return Exit.DONE
    with opened(project_dir=folder, reason=asked.reason, output=output) as session:
        require_same_project(summary, session.manifest, asked.as_project)
        _who(session, summary, asked)
        environments = [session.manifest.environment(each).name for each in asked.environments]
        plan = plan_restore(session, summary, environments=environments, overwrite=asked.overwrite)
        if not asked.as_json:
            _show(output, plan)
        done = None
        if not asked.dry_run:
            _ask(session, asked, plan)
            with CountDisplay(output, "restore", len(plan.work)) as shown:
                done = restore(
                    session, asked.file, asked.identities, summary, plan, progress=shown.advance
                )
    if asked.as_json:
        output.data(_document(plan, done))
    _tell(output, plan, done)
    for label, _ in summary.damaged:
        output.warn(f"`{label}` was damaged when the backup was made, and is not in it")
    return _exit(plan, done)


def _prepared(asked: _Asked, summary: Summary) -> Path | None:
    """Return the project's folder; where there is no store, one is made. None in a dry run."""
    settings, output = Settings.read(), asked.output
    try:
        paths = find_project(asked.project_dir, settings.key_home)
        folder, manifest = paths.folder, read_manifest(paths)[0]
        if paths.locator.exists():
            return folder
    except NotFound as error:
        if error.code != "project.absent":
            raise
        folder, manifest = asked.project_dir or settings.working_folder, None
    if manifest is not None:
        require_same_project(summary, manifest, asked.as_project)
    protected = protected_in(summary, manifest, asked.environments)
    if asked.dry_run:
        output.say(f"`{folder}` has no store yet: one would be made, and all of it restored")
        return None
    if protected and not (asked.reason or settings.reason):
        raise AccessDenied(
            f"`{protected[0]}` is protected: a change needs a reason",
            hint="add `--reason 'why'`, or set KEYTURN_REASON",
            code="access.reason_required",
        )
    if protected:
        confirm(f"make a store in `{folder}` and restore {_names(protected)}?", yes=asked.yes)
    for made in make_place(settings, folder, summary):
        output.say(f"made: {made}")
    return folder


def _who(session: Session, summary: Summary, asked: _Asked) -> bool:
    if asked.public_key is not None:
        return True
    proven = check_writer(summary, store_id=session.store_id, public_key=session.public_key)
    if not proven:
        asked.output.warn(
            "it is of another store than the one here, so who wrote it is not known: anybody who "
            "knows the recipients can write such a file; `--public-key` names the key that must "
            f"have signed it, and this one says {summary.audit.public_key}"
        )
    return proven


def _ask(session: Session, asked: _Asked, plan: Steps) -> None:
    environments = list(dict.fromkeys(step.target.environment for step in plan.work))
    for name in environments:
        session.access.require_reason(name)
    protected = [name for name in environments if session.manifest.environments[name].protected]
    if protected:
        count = sum(step.target.environment in protected for step in plan.work)
        confirm(f"restore {count} secrets of {_names(protected)}?", yes=asked.yes)


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _show(output: Output, plan: Steps) -> None:
    rows = [step for step in plan.steps if step.planned.way is not Way.SAME or step.planned.why]
    if rows:
        output.table(
            ["secret", "what", "versions", "why"],
            [
                [
                    step.label,
                    step.planned.way,
                    step.planned.versions or "-",
                    step.planned.why or "-",
                ]
                for step in rows
            ],
            right=["versions"],
        )
    counts = Counter(step.planned.way for step in plan.steps)
    output.say(", ".join(f"{counts[way]} {way}" for way in Way if counts[way]) or "nothing in it")


def _tell(output: Output, plan: Steps, done: Restored | None) -> None:
    for part, why in plan.skipped:
        output.warn(f"`{part.side}` was left out: {why}")
    for part in plan.unused:
        output.say(f"`{part.side}` was left out: no environment used it when the backup was made")
    if done is None:
        return
    for step, error in done.failed:
        output.say(f"`{step.label}` was left as it was:", important=True)
        output.error(error)
    if done.done:
        output.say(
            f"{len(done.done)} secrets restored, read back and compared; `keyturn test` tells "
            "whether their targets accept them"
        )


def _exit(plan: Steps, done: Restored | None) -> Exit:
    if not plan.steps and not plan.skipped:
        return Exit.NOTHING
    conflict = any(step.planned.way is Way.CONFLICT for step in plan.steps)
    failed = done is not None and bool(done.failed)
    return Exit.BAD if conflict or failed or plan.skipped else Exit.DONE


def _document(plan: Steps, done: Restored | None) -> dict[str, object]:
    return {
        "secrets": [
            {
                "secret": step.outline.name,
                "store": str(step.target.store),
                "environment": step.target.environment,
                "what": step.planned.way,
                "versions": step.planned.versions,
                "why": step.planned.why or None,
            }
            for step in plan.steps
        ],
        "restored": None if done is None else [step.label for step in done.done],
        "failed": []
        if done is None
        else [{"secret": step.label, "error": error.code} for step, error in done.failed],
        "skipped": [{"part": str(part.side), "why": why} for part, why in plan.skipped],
        "unused": [str(part.side) for part in plan.unused],
    }
