"""`keyturn rotate`: replace a credential, losing nothing."""

from __future__ import annotations

from pathlib import Path

import click

from keyturn.app import rotation as rotations
from keyturn.app.secrets import find_secret
from keyturn.app.session import Session
from keyturn.cli.exits import Exit, exit_of
from keyturn.cli.options import (
    confirm_change,
    environment_option,
    json_option,
    opened,
    pick_environment,
    reason_option,
    secret_completion,
    talk_options,
    yes_option,
)
from keyturn.cli.output import Output
from keyturn.cli.progress import StepDisplay
from keyturn.cli.prompt import ask_value, confirm
from keyturn.cli.verb import verb
from keyturn.core.clock import rfc3339
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef
from keyturn.errors import KeyturnError, UsageError
from keyturn.rotate import Report

EXAMPLES = """
keyturn rotate db --dry-run                    # the plan; nothing is touched
keyturn rotate db -e production --reason 'ninety days'
keyturn rotate db --now                        # without grace
keyturn rotate --resume                        # finish whatever was interrupted
keyturn rotate root-key                        # Keyturn's own: also data-key
"""

_OWN_KEYS = ("root-key", "data-key")


@verb(examples=EXAMPLES)
@click.argument("name", required=False, shell_complete=secret_completion)
@click.option("--resume", "resuming", is_flag=True, help="Go on with what was interrupted.")
@click.option("--give-up", is_flag=True, help="End an open rotation where it is.")
@click.option("--now", is_flag=True, help="Without grace: the old credential ends at once.")
@click.option("--dry-run", is_flag=True, help="Show the plan; touch nothing.")
@click.option("--passphrase", is_flag=True, help="root-key: take the new one from a passphrase.")
@environment_option
@reason_option
@yes_option
@json_option
@talk_options
def command(
    name: str | None,
    resuming: bool,
    give_up: bool,
    now: bool,
    dry_run: bool,
    passphrase: bool,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    yes: bool,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Rotate the secret NAME: make a new credential, prove it, move every consumer,
    end the old one and prove that it is dead.

    Whatever step it dies in, `--resume` goes on or goes back. Where a consumer
    does not come up healthy, the old version is put back by itself. With a grace
    the command ends when both credentials are valid; `--resume` finishes later.
    `--give-up` ends a rotation that cannot go on, and leaves the target to you.
    """
    output = Output(as_json=as_json, quiet=quiet)
    if resuming and dry_run:
        raise UsageError("`--resume` has no `--dry-run`", hint="`keyturn status` shows its step")
    if name is None and not resuming:
        raise UsageError("name the secret to rotate", hint="`keyturn status` lists what is due")
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        if name in _OWN_KEYS:
            return _own_key(session, output, name, passphrase=passphrase, dry_run=dry_run)
        where = pick_environment(session, environment)
        if dry_run:
            return _dry_run(session, output, find_secret(session, where, name or ""), now=now)
        if resuming:
            return _resume(session, output, where, name, now=now)
        ref = find_secret(session, where, name or "")
        if give_up:
            return _give_up(session, output, ref, yes=yes)
        confirm_change(session, where, f"rotate `{ref}`?", yes=yes)
        if now and (unseen := rotations.unseen_consumers(session, ref)):
            output.warn(
                f"{', '.join(unseen)} cannot be reloaded or seen to use the new version, and the "
                "old one ends at once: restart now, or leave `--now` away"
            )
        with StepDisplay(output, str(ref)) as display:
            report = rotations.rotate(
                session, ref, now=now, listener=display.progress, say=display.say
            )
        _tell(output, [report])
        return Exit.DONE


def _dry_run(session: Session, output: Output, ref: SecretRef, *, now: bool) -> int:
    lines = rotations.plan_rotation(session, ref, now=now)
    if output.as_json:
        output.data([{"step": line.step, "text": line.text} for line in lines])
    else:
        output.table(["step", "what happens"], [[line.step, line.text] for line in lines])
        output.say("nothing was touched")
    return Exit.DONE


def _give_up(session: Session, output: Output, ref: SecretRef, *, yes: bool) -> int:
    confirm(f"end the rotation of `{ref}` where it is, unfinished?", yes=yes)
    report = rotations.give_up(session, ref)
    if output.as_json:
        output.data([_document(report)])
    current = session.store.state(ref).current
    output.say(
        f"{ref}: given up; version {current or 'none'} is in use, and the target may accept "
        "the other credential too: look there",
        important=True,
    )
    return Exit.DONE


def _resume(
    session: Session, output: Output, where: EnvironmentName, name: str | None, *, now: bool
) -> int:
    if name is not None:
        refs = [find_secret(session, where, name)]
    else:
        refs = [each.ref for each in rotations.open_rotations(session)]
        if not refs:
            output.say("no rotation is open")
            if output.as_json:
                output.data([])
            return Exit.DONE
    reports: list[Report] = []
    worst: KeyturnError | None = None
    for ref in refs:
        try:
            with StepDisplay(output, str(ref)) as display:
                report = rotations.resume(
                    session, ref, now=now, listener=display.progress, say=display.say
                )
            reports.append(report)
        except KeyturnError as error:
            # One that cannot go on now must not keep the others from it.
            output.error(error)
            worst = worst or error
    _tell(output, reports)
    return exit_of(worst) if worst is not None else Exit.DONE


def _tell(output: Output, reports: list[Report]) -> None:
    if output.as_json:
        output.data([_document(report) for report in reports])
    failed: KeyturnError | None = None
    for report in reports:
        found, ref = report.rotation, report.rotation.ref
        try:
            report.require_success()
        except KeyturnError as error:
            if failed is not None:
                output.error(failed)
            failed = error
            continue
        if report.waits_until is not None:
            output.say(
                f"{ref}: version {found.new_version} is in use; the old one stays valid until "
                f"{rfc3339(report.waits_until)[:19]}Z, then "
                f"`keyturn rotate --resume {ref.name} -e {ref.environment}` ends it",
                important=True,
            )
        else:
            output.say(f"{ref}: version {found.new_version} is in use, rotation done")
    if failed is not None:
        raise failed


def _document(report: Report) -> dict[str, object]:
    found = report.rotation
    return {
        "rotation": found.id,
        "environment": found.ref.environment,
        "secret": found.ref.name,
        "state": found.state.value,
        "step": found.step.value,
        "old_version": found.plan.old_version,
        "new_version": found.new_version,
        "waits_until": report.waits_until,
        "error": found.error,
        "notes": list(report.notes),
    }


def _own_key(
    session: Session, output: Output, name: str, *, passphrase: bool, dry_run: bool
) -> int:
    if dry_run:
        text = (
            "the root key is replaced and the data keys are wrapped anew; no value is touched"
            if name == "root-key"
            else "every value is sealed again under a new data key, in batches"
        )
        output.say(text)
        return Exit.DONE
    if name == "root-key":
        phrase = ask_value("New passphrase of the store") if passphrase else None
        folder = rotations.rotate_root(session, phrase=phrase)
        output.say(
            "the root key is replaced"
            + ("" if passphrase else f"; the new key file is in {folder}: back it up")
        )
    else:
        done = rotations.rotate_data_keys(session)
        output.say(f"{done.versions} versions sealed under a new data key")
    return Exit.DONE
