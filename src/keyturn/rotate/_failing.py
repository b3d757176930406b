"""What a step raised, as the failure of that step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from keyturn.errors import InternalError, KeyturnError, OutcomeUnknown, Unavailable
from keyturn.rotate.saga import Outcome, Step

__all__ = ["StepFailedError", "outcome_of", "own_failures"]


class StepFailedError(Exception):
    """Carries a step's own failure out of the transaction that it undoes."""

    def __init__(self, cause: KeyturnError) -> None:
        super().__init__(cause.message)
        self.cause = cause


@contextlib.contextmanager
def own_failures(step: Step) -> Iterator[None]:
    """Turn what a step raises into its failure, and nothing of it into a crash."""
    try:
        yield
    except KeyturnError as error:
        raise StepFailedError(error) from error
    except OSError as error:
        failure = Unavailable(f"`{step}` could not use this machine: {error.strerror}")
        raise StepFailedError(failure) from error
    except (Exception, SystemExit) as error:
        # A bug in an adapter, which no exit code of its own hides. The old credential
        # works, so going back beats stopping here; the text is left out because it may
        # hold anything.
        bug = InternalError(
            f"`{step}` failed in a way that Keyturn did not foresee: {type(error).__name__}"
        )
        bug.__cause__ = error
        raise StepFailedError(bug) from error


def outcome_of(failure: KeyturnError) -> Outcome:
    """Return what *failure* says of the step's effect."""
    if isinstance(failure, OutcomeUnknown):
        return Outcome.UNKNOWN
    return Outcome.UNAVAILABLE if failure.retryable else Outcome.REFUSED
