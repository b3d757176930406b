"""`keyturn rotate`: replace a credential, losing nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from keyturn.app import rotation as rotations
from keyturn.app.secrets import find_secret
from keyturn.app.session import Session
from keyturn.cli import rotating
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
from keyturn.cli.supply import PersonSupplier, read_given
from keyturn.cli.verb import verb
from keyturn.core.ids import EnvironmentName
from keyturn.core.model import SecretRef, Values
from keyturn.errors import KeyturnError, RotationFailed, UsageError
from keyturn.manifest import Priority
from keyturn.rotate import Report

EXAMPLES = """
keyturn rotate db --dry-run                    # the plan; nothing is touched
keyturn rotate db --rehearse                   # every step, on a throw-away credential
keyturn rotate db -e production --reason 'ninety days'
keyturn rotate stripe                          # shows what to do, asks for the new key
keyturn rotate --all --priority critical       # in order, side by side
keyturn rotate --resume                        # finish whatever was interrupted
keyturn rotate root-key                        # Keyturn's own: also data-key
"""

_OWN_KEYS = ("root-key", "data-key")


@dataclass(frozen=True, slots=True)
class _Options:
    """What was asked, once it is known to make sense together."""

    name: str | None
    everything: bool
    priority: str | None
    resuming: bool
    give_up: bool
    now: bool
    dry_run: bool
    rehearse: bool
    passphrase: bool
    source: str | None
    at_once: int
    yes: bool


@verb(examples=EXAMPLES)
@click.argument("name", required=False, shell_complete=secret_completion)
@click.option("--all", "everything", is_flag=True, help="Every secret, in order and in waves.")
@click.option(
    "--priority",
    type=click.Choice([word.value for word in Priority]),
    help="With --all: those of this priority only.",
)
@click.option("--resume", "resuming", is_flag=True, help="Go on with what was interrupted.")
@click.option("--give-up", is_flag=True, help="End an open rotation where it is.")
@click.option("--now", is_flag=True, help="Without waiting: the old credential ends at once.")
@click.option("--dry-run", is_flag=True, help="Show the plan; touch nothing.")
@click.option("--rehearse", is_flag=True, help="Try every step on a throw-away credential.")
@click.option("--from-file", "source", help="Guided kinds: read the new value; `-` for stdin.")
@click.option("--at-once", default=4, type=click.IntRange(1, 32), help="With --all: side by side.")
@click.option("--passphrase", is_flag=True, help="root-key: take the new one from a passphrase.")
@environment_option
@reason_option
@yes_option
@json_option
@talk_options
def command(  # noqa: PLR0911 - one return for each thing that may be asked
    *,
    environment: str | None,
    project_dir: Path | None,
    reason: str | None,
    as_json: bool,
    quiet: int,
    **options: object,
) -> int:
    """
    Rotate the secret NAME: make a new credential, prove it, move every consumer,
    end the old one and prove that it is dead.

    Whatever step it dies in, `--resume` goes on or goes back. Where a consumer
    does not come up healthy, the old version is put back by itself. With a grace
    the command ends when both credentials are valid; `--resume` or `keyturn tick`
    finishes later. What only a person can do is said, and waited for.
    `--give-up` ends a rotation that cannot go on, and leaves the target to you.
    """
    output = Output(as_json=as_json, quiet=quiet)
    asked = _Options(**options)  # type: ignore[arg-type] # click has checked each by its type
    _require_sense(asked)
    with opened(project_dir=project_dir, reason=reason, output=output) as session:
        if asked.name in _OWN_KEYS:
            return _own_key(
                session,
                output,
                asked.name or "",
                passphrase=asked.passphrase,
                dry_run=asked.dry_run,
            )
        where = pick_environment(session, environment)
        if asked.everything:
            return _everything(session, output, where, asked)
        if asked.resuming:
            return _resume(session, output, where, asked)
        if asked.give_up:
            return _give_up(session, output, _open_one(session, where, asked.name or ""), asked)
        ref = find_secret(session, where, asked.name or "")
        if asked.dry_run:
            return _dry_run(session, output, ref, now=asked.now)
        if asked.rehearse:
            return rotating.rehearse_one(session, output, ref)
        return _one(session, output, ref, asked)


def _require_sense(asked: _Options) -> None:
    if asked.resuming and asked.dry_run:
        raise UsageError("`--resume` has no `--dry-run`", hint="`keyturn status` shows its step")
    if asked.everything and (asked.name or asked.resuming or asked.give_up or asked.source):
        raise UsageError(
            "`--all` takes no name, value, `--resume` or `--give-up`",
            hint="`keyturn rotate --resume` alone goes on with everything that is open",
        )
    if asked.source and (asked.name is None or asked.name in _OWN_KEYS):
        raise UsageError(
            "`--from-file` belongs to one secret", hint="keyturn rotate NAME --from-file PATH"
        )
    if asked.priority and not asked.everything:
        raise UsageError("`--priority` belongs to `--all`", hint="keyturn rotate --all --priority")
    if asked.name is None and not asked.resuming and not asked.everything:
        raise UsageError("name the secret to rotate", hint="`keyturn status` lists what is due")


def _one(session: Session, output: Output, ref: SecretRef, asked: _Options) -> int:
    confirm_change(session, ref.environment, f"rotate `{ref}`?", yes=asked.yes)
    if asked.now and (unseen := rotations.unseen_consumers(session, ref)):
        output.warn(
            f"{', '.join(unseen)} cannot be reloaded or seen to use the new version, and the "
            "old one ends at once: restart now, or leave `--now` away"
        )
    # A value for what waits for one is the same wish, however it is said.
    return _attended(session, output, ref, asked, going_on=rotations.awaits_value(session, ref))


def _attended(
    session: Session, output: Output, ref: SecretRef, asked: _Options, *, going_on: bool
) -> int:
    """Rotate one secret, or go on with it, where a person may be there to be asked."""
    given = _given(session, ref, asked)
    display = StepDisplay(output, str(ref))
    supplier = PersonSupplier(output, given=given, aside=display.aside)
    act = rotations.resume if going_on else rotations.rotate
    with display:
        report = act(
            session,
            ref,
            now=asked.now,
            supplier=supplier,
            listener=display.progress,
            say=display.say,
        )
    rotating.tell(output, [report], shown=supplier.shown or supplier.refused is not None)
    _require_taken(session, supplier, report, given)
    return Exit.DONE


def _given(session: Session, ref: SecretRef, asked: _Options) -> Values | None:
    """
    Return what `--from-file` has, before anything is begun.

    Raises:
        UsageError: It cannot be read, or no step will ask for it.
    """
    if asked.source is None:
        return None
    refusal = rotations.asks_no_value(session, ref)
    if refusal is not None:
        raise UsageError(
            f"the value of `--from-file` would not be taken: {refusal}",
            hint="it is for kinds whose value a person fetches, while they wait for it;"
            " otherwise leave it away",
        )
    fields = tuple(session.manifest.secret_in(ref.environment, ref.name).fields)
    return read_given(asked.source, fields)


def _everything(session: Session, output: Output, where: EnvironmentName, asked: _Options) -> int:
    if asked.dry_run or asked.rehearse:
        return rotating.preview_all(
            session, output, where, priority=asked.priority, rehearse=asked.rehearse
        )
    confirm_change(session, where, f"rotate every secret of `{where}`?", yes=asked.yes)
    return rotating.rotate_all(
        session, output, where, priority=asked.priority, now=asked.now, at_once=asked.at_once
    )


def _dry_run(session: Session, output: Output, ref: SecretRef, *, now: bool) -> int:
    lines = rotations.plan_rotation(session, ref, now=now)
    if output.as_json:
        output.data([{"step": line.step, "text": line.text} for line in lines])
    else:
        output.table(["step", "what happens"], [[line.step, line.text] for line in lines])
        output.say("nothing was touched")
    return Exit.DONE


def _open_one(session: Session, where: EnvironmentName, name: str) -> SecretRef:
    """Return the secret *name*, also where the manifest has it no more but a rotation is open."""
    for each in rotations.open_rotations(session):
        if (each.ref.environment, each.ref.name) == (where, name):
            return each.ref
    return find_secret(session, where, name)


def _give_up(session: Session, output: Output, ref: SecretRef, asked: _Options) -> int:
    confirm(f"end the rotation of `{ref}` where it is, unfinished?", yes=asked.yes)
    report = rotations.give_up(session, ref)
    if output.as_json:
        output.data([rotating.document(report)])
    current = session.store.state(ref).current
    output.say(
        f"{ref}: given up; version {current or 'none'} is in use, and the target may accept "
        "the other credential too: look there",
        important=True,
    )
    return Exit.DONE


def _resume(session: Session, output: Output, where: EnvironmentName, asked: _Options) -> int:
    if asked.name is not None:
        refs = [_open_one(session, where, asked.name)]
    else:
        refs = [each.ref for each in rotations.open_rotations(session)]
        if not refs:
            output.say("no rotation is open")
            if output.as_json:
                output.data([])
            return Exit.DONE
    for place in dict.fromkeys(ref.environment for ref in refs):
        _confirm_resume(session, place, [ref for ref in refs if ref.environment == place], asked)
    if asked.name is not None:
        return _attended(session, output, refs[0], asked, going_on=True)
    reports: list[Report] = []
    worst: KeyturnError | None = None
    for ref in refs:
        try:
            with StepDisplay(output, str(ref)) as display:
                report = rotations.resume(
                    session, ref, now=asked.now, listener=display.progress, say=display.say
                )
            reports.append(report)
        except KeyturnError as error:
            # One that cannot go on now must not keep the others from it.
            output.error(error)
            worst = worst or error
    rotating.tell(output, reports)
    return exit_of(worst) if worst is not None else Exit.DONE


def _confirm_resume(
    session: Session, where: EnvironmentName, refs: list[SecretRef], asked: _Options
) -> None:
    # An environment that the manifest no longer has is refused with its own words.
    if where in session.manifest.environments:
        listed = ", ".join(f"`{ref}`" for ref in refs)
        confirm_change(session, where, f"go on with the rotation of {listed}?", yes=asked.yes)


def _require_taken(
    session: Session, supplier: PersonSupplier, report: Report, given: Values | None
) -> None:
    """
    Return where a value that was given was taken, or none was given.

    Raises:
        KeyturnError: It was not good.
        RotationFailed: Nothing asked for it.
    """
    refused, ref = supplier.refused, report.rotation.ref
    if refused is not None and report.rotation.is_open:
        protected = session.manifest.environments[ref.environment].protected
        reason = " --reason 'WHY'" if protected else ""
        rest = f"{ref.name} -e {ref.environment}{reason}"
        ways = (
            f"the rotation stays open and waits for another value: `keyturn rotate {rest}"
            f" --from-file PATH`; or end it: `keyturn rotate {rest} --give-up`"
        )
        refused.hint = f"{refused.hint}; {ways}" if refused.hint else ways
    if refused is not None:
        raise refused
    if given is not None and not supplier.taken:
        raise RotationFailed(
            "the value of `--from-file` was not taken: the rotation had one already",
            hint=f"`keyturn status -e {ref.environment}` shows where it is",
        )


def _own_key(
    session: Session, output: Output, name: str, *, passphrase: bool, dry_run: bool
) -> int:
    if dry_run:
        text = (
            "the root key is replaced and the data keys are wrapped anew; no value is touched"
            if name == "root-key"
            else "every value is sealed again under a new data key, in batches"
        )
        if output.as_json:
            output.data([{"step": "rotate", "text": text}])
        output.say(text)
        return Exit.DONE
    facts: dict[str, object]
    if name == "root-key":
        phrase = ask_value("New passphrase of the store") if passphrase else None
        folder = rotations.rotate_root(session, phrase=phrase)
        facts = {"source": "passphrase" if passphrase else "key-file", "folder": str(folder)}
        said = "the root key is replaced" + (
            "" if passphrase else f"; the new key file is in {folder}: back it up"
        )
    else:
        facts = {"versions": rotations.rotate_data_keys(session).versions}
        said = f"{facts['versions']} versions sealed under a new data key"
    if output.as_json:
        output.data({"key": name, **facts})
    output.say(said)
    return Exit.DONE
