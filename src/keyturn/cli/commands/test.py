"""`keyturn test`: the retrieval test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from keyturn.app.inspection import Check, Result, prove_retrieval
from keyturn.cli.exits import Exit
from keyturn.cli.options import (
    environment_option,
    json_option,
    names_argument,
    opened,
    pick_environment,
    talk_options,
)
from keyturn.cli.output import Output
from keyturn.cli.verb import verb

EXAMPLES = """
keyturn test
keyturn test db -e production
keyturn test -e production --json
"""


@verb(examples=EXAMPLES)
@names_argument(many=True)
@environment_option
@json_option
@talk_options
def command(
    names: tuple[str, ...],
    environment: str | None,
    project_dir: Path | None,
    as_json: bool,
    quiet: int,
) -> int:
    """
    Prove that every secret is present, well-formed, strong and working.

    It goes on after a failure and sums up. Exit code 1 says that something failed,
    3 that nothing was checked. What could not be looked at is shown as skipped,
    with the reason, and never counts as passed.
    """
    output = Output(quiet=quiet)
    with opened(project_dir=project_dir, output=output) as session:
        where = pick_environment(session, environment)
        checks = list(prove_retrieval(session, where, names))
    counts = Counter(check.result for check in checks)
    if as_json:
        output.data(
            {
                "environment": where,
                "summary": {str(result): counts[result] for result in Result},
                "checks": [_document(check) for check in checks],
            }
        )
    else:
        output.table(
            ["secret", "check", "result", "detail"],
            [[check.subject, check.check, check.result, check.detail or "-"] for check in checks],
            empty=f"nothing to check in `{where}`",
        )
        output.say(
            ", ".join(f"{counts[result]} {_WORDS[result]}" for result in Result), important=True
        )
    if counts[Result.FAIL]:
        return Exit.BAD
    return Exit.DONE if counts[Result.PASS] else Exit.NOTHING


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
    }
