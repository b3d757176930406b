"""What a traced login says, and what each SQLSTATE means: no server, no language."""

from __future__ import annotations

import pytest

from keyturn.errors import Rejected, Unavailable
from keyturn.targets._postgres_connection import require_libpq
from keyturn.targets._postgres_dial import LIBPQ_NEEDED, Refused, read_trace
from keyturn.targets._postgres_errors import (
    LOGIN_REFUSED,
    NO_CONNECTION_LEFT,
    login_error,
)
from keyturn.targets._postgres_throwaway import name_for

START = 'F\t34\tStartupMessage\t 3 0 "user" "x" "database" "y"\n'
ASKED = 'B\t23\tAuthenticationSASL\t "SCRAM-SHA-256" ""\n'
LIBPQ = 'connection to server at "127.0.0.1", port 5432 failed: '


def error(severity, state, words):
    """Return the line of a refusal as libpq traces it."""
    return (
        f'B\tNN\tErrorResponse\t S "{severity}" V "FATAL" C "{state}" M "{words}"'
        ' F "SSSS" L "SSSS" R "SSSS" \\x00\n'
    )


@pytest.mark.parametrize(
    ("severity", "words"),
    [
        ("FATAL", 'password authentication failed for user "x"'),
        ("FATAL", "Passwort-Authentifizierung für Benutzer »x« fehlgeschlagen"),
        ("ВАЖНО", "пользователь x не прошёл проверку подлинности"),
        ("致命的エラー", "ユーザー x のパスワード認証に失敗しました"),
    ],
)
def test_the_state_and_the_words_are_read_in_every_language(severity, words):
    """The severity is cut off, whatever it is called."""
    trace = START + ASKED + error(severity, "28P01", words)
    found = read_trace(trace, f"{LIBPQ}{severity}:  {words}\nDETAIL:  more\n")
    assert Refused(words, "28P01", asked=True) == found


def test_the_last_attempt_counts():
    """libpq tries with TLS and without, and each address; only the last is the answer."""
    first = START + ASKED + error("FATAL", "28P01", "no")
    text = f"{LIBPQ}FATAL:  no\n{LIBPQ}FATAL:  never\n"
    found = read_trace(first + START + error("FATAL", "28000", "never"), text)
    assert Refused("never", "28000", asked=False) == found
    assert Refused("server closed", None) == read_trace(first + START, f"{text}server closed\n")


@pytest.mark.parametrize(
    "trace", ["", "B\t8\tErrorResponse\n", START + 'B\t8\tErrorResponse\t S "X']
)
def test_a_trace_without_an_answer_proves_nothing(trace):
    """Cut off, empty, or of a form that is not known: no state, so no refusal."""
    found = read_trace(trace, "")
    assert Refused("no reason given") == found
    assert isinstance(login_error("h:1/d", "x", found), Unavailable)


@pytest.mark.parametrize(
    ("state", "asked", "family", "code"),
    [
        ("28P01", True, Rejected, LOGIN_REFUSED),
        ("28000", True, Rejected, LOGIN_REFUSED),
        ("28000", False, Rejected, "target.connection"),
        ("3D000", True, Rejected, "target.connection"),
        ("42501", True, Rejected, "target.connection"),
        ("55000", True, Rejected, "target.connection"),
        ("53300", False, Unavailable, "target.unavailable"),
        ("53300", True, Unavailable, NO_CONNECTION_LEFT),
        ("57P03", False, Unavailable, "target.unavailable"),
        ("08P01", True, Unavailable, "target.unavailable"),
        ("XX000", True, Unavailable, "target.unavailable"),
        (None, True, Unavailable, "target.unavailable"),
    ],
)
def test_what_each_state_means(state, asked, family, code):
    """Only two of them say that a login is dead; each has a hint."""
    found = login_error("h:1/d", "x", Refused("слова", state, asked))
    assert type(found) is family
    assert code == found.code
    assert found.message.endswith(": слова")
    assert found.hint
    assert found.retryable == (family is Unavailable)


@pytest.mark.parametrize("state", ["53300"])
@pytest.mark.parametrize("asked", [True, False])
def test_too_many_connections_is_said_so(state, asked):
    """Not "cannot be reached"."""
    found = login_error("h:1/d", "x", Refused("too many clients already", state, asked))
    assert "has no connection left" in found.message
    assert "CONNECTION LIMIT" in found.hint


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('authentication method requirement "scram-sha-256,md5" failed', "target.authentication"),
        ("server does not support SSL, but SSL was required", "target.connection"),
        ("certificate verify failed", "target.connection"),
        ("Connection refused", "target.unavailable"),
    ],
)
def test_libpq_s_own_words_are_told_apart(words, code):
    """The server gave no answer."""
    assert code == login_error("h:1/d", "x", Refused(words)).code


def test_a_libpq_that_does_not_tell_is_refused():
    """Without a state nothing could ever be proven refused."""
    require_libpq(LIBPQ_NEEDED)
    with pytest.raises(Rejected, match="libpq 17") as caught:
        require_libpq(170006)
    assert "target.driver" == caught.value.code
    assert "psycopg[binary]" in caught.value.hint


@pytest.mark.parametrize("role", ["app", "x" * 63, "ö" * 31, "日" * 21])
def test_a_throw_away_name_fits(role):
    """PostgreSQL would cut it, within a character if need be."""
    name = name_for(role)
    assert name.endswith("_rehearsal")
    assert role.startswith(name.removesuffix("_rehearsal"))
    assert len(name.encode()) <= 63
