"""
Opening a connection, and learning from the server itself why it was refused.

A login that fails has its reason in the server's ErrorResponse: a SQLSTATE, the same
in every language, and a sentence in the server's language. libpq keeps only the
sentence, and the driver has no way to ask for more. Taking the sentence apart would
tie every proof to servers that speak English.

So the driver's documented trace of the protocol is switched on for the login alone:
libpq writes each message's fields down, and the SQLSTATE is read from there. It is
the very attempt whose answer matters, over TLS, TCP or a socket file, with whatever
authentication libpq speaks. The trace goes to memory that has no name and is gone
with the call; authentication stands in it as proofs, never as a password.

Another driver only for this, or a login written out by hand with its own TLS and
SCRAM, would be a second attempt, which can be answered differently from the first.
libpq traces a refused login since version 18. The driver never closes the stream that
it wraps around the trace: a few kilobytes for each login, in a process of few logins.

    tab-separated:  direction  length  message  fields
    B	NN	ErrorResponse	 S "ВАЖНО" V "FATAL" C "28P01" M "..." ...
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

__all__ = ["LIBPQ_NEEDED", "Opened", "Refused", "dial", "read_trace"]

# The first libpq that traces what a server answers to a login.
LIBPQ_NEEDED = 180000

_MESSAGE = "\tStartupMessage\t"
_ASKED = re.compile(r"^B\t\w+\tAuthentication", re.MULTILINE)
_ERROR = re.compile(
    r'^B\t\w+\tErrorResponse\t S "(?P<severity>[^"\n]*)" V "[A-Z]+" C "(?P<state>[0-9A-Z]{5})"',
    re.MULTILINE,
)
_WORDS_LIMIT = 200
_TRACE_LIMIT_BYTES = 1 << 20

Opened: TypeAlias = "PGconn"


@dataclass(frozen=True, slots=True)
class Refused:
    """
    Why no connection came about.

    Args:
        words: The server's own, or libpq's where the server said nothing.
        sqlstate: The server's; None where it gave no answer of its own.
        asked: The server asked for the password before it said no. An answer other
            than "wrong password" then means that the password was right.
    """

    words: str
    sqlstate: str | None = None
    asked: bool = False


def dial(parameters: Mapping[str, object], *, timeout_seconds: float) -> Opened | Refused:
    """
    Return a connection to the first host that lets us in, or why none does.

    Args:
        parameters: libpq's; `host` may name several, separated by commas.
        timeout_seconds: How long one host may take.
    """
    answered = None
    refused = Refused("no host given")
    for host in str(parameters["host"]).split(","):
        outcome = _dial_one({**parameters, "host": host}, timeout_seconds)
        if not isinstance(outcome, Refused):
            return outcome
        refused = outcome
        if outcome.sqlstate is not None:
            answered = outcome
    # What a server said weighs more than a host that did not answer.
    return answered or refused


def read_trace(trace: str, libpq_words: str) -> Refused:
    """
    Return what the server said in *trace*, of the last attempt in it.

    Args:
        trace: libpq's, of one login; libpq may have tried with and without TLS, and
            every address of the host.
        libpq_words: Its error text, with the server's words behind their severity.
    """
    _, _, last = trace.rpartition(_MESSAGE)
    errors = list(_ERROR.finditer(last))
    if not errors:
        return Refused(_last_line(libpq_words))
    error = errors[-1]
    mark = f"{error['severity']}:"
    said = [line.partition(mark)[2] for line in libpq_words.splitlines() if mark in line]
    words = said[-1].strip()[:_WORDS_LIMIT] if said else _last_line(libpq_words)
    asked = _ASKED.search(last, 0, error.start()) is not None
    return Refused(words, error["state"], asked)


def _dial_one(parameters: Mapping[str, object], timeout_seconds: float) -> Opened | Refused:
    from psycopg import conninfo, pq

    text = conninfo.make_conninfo(**{key: str(value) for key, value in parameters.items()})
    deadline = time.monotonic() + timeout_seconds
    connection = pq.PGconn.connect_start(text.encode("utf-8"))
    done = False
    try:
        with _traced(connection) as read:
            done = _poll(connection, deadline)
            if done:
                return connection
            if connection.status != pq.ConnStatus.BAD:
                return Refused("connection timeout expired")
            return read_trace(read(), connection.error_message.decode("utf-8", "replace"))
    finally:
        if not done:
            connection.finish()


def _poll(connection: Opened, deadline: float) -> bool:
    """Return whether the login succeeded; False where it failed or time ran out."""
    from psycopg import pq

    if connection.status == pq.ConnStatus.BAD:
        return False
    while (status := connection.connect_poll()) != pq.PollingStatus.OK:
        if status == pq.PollingStatus.FAILED:
            return False
        left = deadline - time.monotonic()
        # Asked anew each time: libpq changes its socket from one address to the next.
        poller = select.poll()
        reading = status == pq.PollingStatus.READING
        poller.register(connection.socket, select.POLLIN if reading else select.POLLOUT)
        if left <= 0 or not poller.poll(left * 1000):
            return False
    return True


@contextmanager
def _traced(connection: Opened) -> Iterator[Callable[[], str]]:
    """Give out a function that ends the trace and returns it."""
    from psycopg import pq

    descriptor = os.memfd_create("keyturn-trace")

    def read() -> str:
        # libpq buffers the trace and gives it out at the end.
        connection.untrace()
        return os.pread(descriptor, _TRACE_LIMIT_BYTES, 0).decode("utf-8", "replace")

    try:
        connection.trace(descriptor)
        # Regress mode leaves out lengths that vary, and what SCRAM exchanges.
        connection.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS | pq.Trace.REGRESS_MODE)
        yield read
    finally:
        connection.untrace()
        os.close(descriptor)


def _last_line(text: str) -> str:
    # libpq lists every address it tried, the last one last.
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else "no reason given")[:_WORDS_LIMIT]
