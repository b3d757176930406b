"""`keyturn audit`: show, verify and export the audit log."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import click

from keyturn.app import auditing
from keyturn.app.auditing import AuditFilter
from keyturn.audit import Report
from keyturn.cli.exits import Exit
from keyturn.cli.options import json_option, opened, project_option, talk_options
from keyturn.cli.output import Output
from keyturn.cli.verb import verb_group
from keyturn.errors import UsageError

EXAMPLES = """
keyturn audit log --action 'secret.*' --since 7d
keyturn audit verify
keyturn audit export audit.jsonl && keyturn audit verify audit.jsonl
"""


@verb_group(examples=EXAMPLES)
def command() -> None:
    """Show, verify or export the audit log."""


@command.command("log")
@click.option("--action", help="A pattern such as `secret.*`.")
@click.option("--object", "subject", help="A pattern such as `production/*`.")
@click.option("--actor", help="Who.")
@click.option("--outcome", help="begun, done, failed, denied or unknown.")
@click.option("--since", help="A time (RFC 3339), or an age such as 7d.")
@click.option("--until", help="A time (RFC 3339), or an age such as 1h.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@project_option
@json_option
@talk_options
def log(
    action: str | None,
    subject: str | None,
    actor: str | None,
    outcome: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    project_dir: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """Show the newest records, chain and read log as one. No record holds a value."""
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, output=output) as session:
        now = session.clock.now()
        chosen = AuditFilter(
            action=action,
            subject=subject,
            actor=actor,
            outcome=outcome,
            since=_moment(since, now, "--since"),
            until=_moment(until, now, "--until"),
            limit=limit,
        )
        rows = auditing.show_log(session, chosen)
    if as_json:
        output.data([row.document for row in rows])
        return Exit.DONE
    output.table(
        ["place", "time", "actor", "action", "object", "outcome", "detail"],
        [
            [row.place, row.time, row.actor, row.action, row.subject, row.outcome, row.detail]
            for row in rows
        ],
        empty="no record matches",
        right=["place"],
    )
    return Exit.DONE


def _moment(text: str | None, now: datetime, flag: str) -> datetime | None:
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
    try:
        if text[-1:] in units and text[:-1].isdecimal():
            return now - timedelta(seconds=int(text[:-1]) * units[text[-1]])
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"`{flag}` is neither a time nor an age", hint="write 2026-01-31T12:00:00Z, or 7d"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)


@command.command("verify")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--public-key", help="With a bundle: the key that must have signed it, in hex.")
@project_option
@json_option
@talk_options
def verify(
    bundle: Path | None,
    public_key: str | None,
    project_dir: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Verify every record: the project's own log, or an exported BUNDLE offline.

    A change, a gap, a forged or a cut log ends with exit code 1 and the first bad
    place.
    """
    output = Output(quiet=quiet)
    if bundle is not None:
        report = auditing.verify_file(bundle, public_key=public_key)
        if public_key is None:
            output.warn("no `--public-key`: the bundle was checked against the key it names itself")
    else:
        with opened(project_dir=project_dir, output=output) as session:
            report = auditing.verify(session)
            output.say(f"public key of the checkpoints: {session.public_key.hex()}")
    if as_json:
        output.data(_document(report))
    else:
        reads = report.read_log
        output.line(f"verified: {report.records} records, head {report.head[:16]}")
        output.line(f"checkpoints: {report.checkpoints}, signed up to {report.signed_up_to}")
        output.line(f"read log: {reads.lines} lines in {reads.segments} segments")
        for reason in report.skipped:
            output.line(f"skipped: {reason}")
    return Exit.NOTHING if report.nothing_checked else Exit.DONE


def _document(report: Report) -> dict[str, object]:
    reads = report.read_log
    return {
        "records": report.records,
        "verified_up_to": report.verified_up_to,
        "head": report.head,
        "checkpoints": report.checkpoints,
        "signed_up_to": report.signed_up_to,
        "unsigned": report.unsigned,
        "anchors": report.anchors,
        "read_log": {
            "segments": reads.segments,
            "lines": reads.lines,
            "sealed": reads.sealed,
            "unanchored": reads.unanchored,
        },
        "skipped": list(report.skipped),
    }


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@project_option
@talk_options
def export(file: Path, project_dir: Path | None, quiet: int) -> int:
    """Write the whole log to FILE, with what verifies it offline. It holds no value."""
    output = Output(quiet=quiet)
    if file.exists():
        raise UsageError(f"`{file}` exists", hint="name a new file")
    with opened(project_dir=project_dir, output=output) as session:
        size = auditing.export(session, file)
        key = session.public_key.hex()
    output.say(f"{file}: {size} bytes")
    output.say(f"verify it anywhere: `keyturn audit verify {file} --public-key {key}`")
    return Exit.DONE
