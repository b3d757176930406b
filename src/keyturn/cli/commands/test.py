"""`keyturn test`: the retrieval test."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from keyturn.app.checks import Check, Result
from keyturn.app.config import Settings
from keyturn.app.own_view import look_as, open_view
from keyturn.app.retrieval import Wanted, prove_retrieval
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    consumer_completion,
    consumer_option,
    environment_option,
    json_option,
    names_argument,
    opened,
    pick_environment,
    talk_options,
)
from keyturn.cli.output import Output, plain_text
from keyturn.cli.verb import verb
from keyturn.core.clock import SystemClock
from keyturn.errors import UsageError

EXAMPLES = """
keyturn test
keyturn test db -e production
keyturn test --consumer backend -e production --junit report.xml
keyturn test --as-consumer backend -e production --live
"""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Found:
    """What one run of the test found, in one environment."""

    project: str
    environment: str
    consumer: str | None
    checks: Sequence[Check]


@verb(examples=EXAMPLES)
@names_argument(many=True)
@environment_option
@consumer_option("Only what this consumer is given, its file and its health.")
@click.option(
    "--as-consumer",
    shell_complete=consumer_completion,
    help="Look at what this very process has; run it inside the consumer's container or unit.",
)
@click.option("--live", is_flag=True, help="With --as-consumer: try the values as well.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=30.0,
    show_default=True,
    help="Seconds that each target may take to answer.",
)
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "junit"]), help="How it is written."
)
@click.option(
    "--junit",
    "junit_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a JUnit XML report to this file as well.",
)
@json_option
@talk_options
def command(
    names: tuple[str, ...],
    environment: str | None,
    project_dir: Path | None,
    consumer: str | None,
    as_consumer: str | None,
    live: bool,
    timeout: float,
    form: str | None,
    junit_file: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Prove that every secret is present, well-formed, strong and working.

    It goes on after a failure and sums up. Exit code 1 says that something failed, 7
    that all that failed is that nobody answered, 3 that nothing was checked. What could
    not be looked at is shown as skipped, with the reason, and never counts as passed.

    With --as-consumer it needs neither the store nor a key, and tells what the process
    itself can see, and what it can read and must not.
    """
    form = _form(form, as_json=as_json)
    _refuse_together(names, consumer, as_consumer, live=live)
    output = Output(quiet=quiet)
    if as_consumer is None:
        wanted = Wanted(names, consumer, timeout)
        found = _from_outside(project_dir, environment, wanted, output)
    else:
        view = open_view(
            Settings.read(),
            project_dir=project_dir,
            environment=environment,
            consumer=as_consumer,
            live=live,
            probe_seconds=timeout,
        )
        with _progress(output) as say:
            checks = list(look_as(view, say=say))
        found = _Found(view.manifest.project.name, view.environment, as_consumer, checks)
    if junit_file is not None:
        _write(junit_file, _junit(found))
    _show(output, found, form)
    return _exit(found.checks)


def _form(asked: str | None, *, as_json: bool) -> str:
    if as_json and asked not in {None, "json"}:
        raise UsageError("`--json` and `--format` ask for two things", hint="give one of them")
    return "json" if as_json else asked or "table"


def _refuse_together(
    names: tuple[str, ...], consumer: str | None, as_consumer: str | None, *, live: bool
) -> None:
    if as_consumer is not None and (names or consumer is not None):
        raise UsageError(
            "`--as-consumer` looks at all that this process has",
            hint="leave out the names and `--consumer`",
        )
    if live and as_consumer is None:
        raise UsageError(
            "`--live` belongs to `--as-consumer`", hint="without it values are always tried"
        )


def _from_outside(
    project_dir: Path | None, environment: str | None, wanted: Wanted, output: Output
) -> _Found:
    with opened(project_dir=project_dir, output=output) as session:
        where = pick_environment(session, environment)
        with _progress(output) as say:
            checks = list(prove_retrieval(session, where, wanted, say=say))
        return _Found(session.manifest.project.name, where, wanted.consumer, checks)


@contextlib.contextmanager
def _progress(output: Output) -> Iterator[Say | None]:
    """Show on a terminal what is being waited for."""
    if output.quiet or not sys.stderr.isatty():
        yield None
        return
    with output.talk_console().status("looking") as status:
        yield lambda text: status.update(plain_text(text))


def _show(output: Output, found: _Found, form: str) -> None:
    counts = Counter(check.result for check in found.checks)
    if form == "json":
        output.data(
            {
                "environment": found.environment,
                "consumer": found.consumer,
                "summary": {str(result): counts[result] for result in Result},
                "checks": [_document(check) for check in found.checks],
            }
        )
        return
    if form == "junit":
        output.text(_junit(found))
    else:
        output.table(
            ["secret", "check", "result", "detail"],
            [
                [check.subject, check.check, check.result, check.detail or "-"]
                for check in found.checks
            ],
            empty=f"nothing to check in `{found.environment}`",
        )
    output.say(", ".join(f"{counts[result]} {_WORDS[result]}" for result in Result), important=True)


def _junit(found: _Found) -> str:
    from keyturn.cli.junit import junit_xml

    return junit_xml(
        found.project,
        found.environment,
        found.checks,
        at=SystemClock().now(),
        consumer=found.consumer,
    )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"`{path}` cannot be written: {error.strerror}", hint="name another file"
        ) from error


def _exit(checks: Sequence[Check]) -> Exit:
    failed = [check for check in checks if check.result is Result.FAIL]
    if any(not check.unreachable for check in failed):
        return Exit.BAD
    if failed:
        return Exit.UNREACHABLE
    return Exit.DONE if any(check.result is Result.PASS for check in checks) else Exit.NOTHING


_WORDS = {
    Result.PASS: "passed",
    Result.FAIL: "failed",
    Result.WARN: "warnings",
    Result.SKIPPED: "skipped",
}


def _document(check: Check) -> dict[str, object]:
    return {
        "subject": check.subject,
        "check": check.check,
        "result": check.result,
        "detail": check.detail,
        "seconds": round(check.seconds, 3),
        "unreachable": check.unreachable,
    }
