"""Transcripts of `keyturn rollback` while a rotation of the secret is open."""

from __future__ import annotations

import pytest

from tests.cli.projects import PRODUCTION
from tests.cli.test_cli_ways_out import PROGRAM, TOOL

FIRST = b"test-tool-first-Aa1Bb2Cc3"
SLOW = TOOL.replace('variable = "TOOL_KEY"', 'variable = "TOOL_KEY"\ngrace = "1h"')
KEEPING = PROGRAM.replace('case "retire":', 'case "retire":\n        sys.exit(10)')


@pytest.fixture
def tool(project):
    """A project with a command's secret, whose first version works."""
    install(project, PROGRAM)
    (project.folder / "count").touch()
    (project.folder / "accepted").write_text(FIRST.decode())
    consumed = project.manifest.read_text().replace('["session"]', '["session", "tool"]')
    project.manifest.write_text(consumed + SLOW)
    project.put("tool", FIRST)
    return project


def install(project, program):
    (project.folder / "tool").write_text(program)
    (project.folder / "tool").chmod(0o755)


def accepted(project):
    return (project.folder / "accepted").read_text().split()


def test_in_the_grace_it_goes_back(tool, quick):
    """The hint of the rotation is true: the old one is in use, and the new one is ended."""
    begun = quick("rotate", "tool")
    assert "`keyturn rollback tool -e development` goes back to it" in begun.text
    assert 2 == len(accepted(tool))
    back = quick("rollback", "tool")
    assert (0, True) == (back.code, "turned back; version 1 is current" in back.text), back.text
    assert [FIRST.decode()] == accepted(tool)
    assert FIRST == quick("get", "tool").out
    assert 0 == quick("test", "tool").code
    assert ["rotation.run.rollback"] == [
        each["action"] for each in tool.actions(action="rotation.run.rollback")
    ]
    again = quick("rotate", "tool", "--now")
    assert (0, 1) == (again.code, len(accepted(tool)))


def test_a_protected_environment_wants_a_reason_and_an_answer(tool, quick):
    """As every other change of what is in use there."""
    tool.put("tool", FIRST, environment=PRODUCTION)
    words = ("tool", "-e", "production")
    assert 0 == quick("rotate", *words, "--reason", "test", "--yes").code
    assert 4 == quick("rollback", *words).code
    assert 2 == quick("rollback", *words, "--reason", "bad deploy").code
    assert 2 == len(accepted(tool))
    assert 0 == quick("rollback", *words, "--reason", "bad deploy", "--yes").code
    assert [FIRST.decode()] == accepted(tool)
    ended = tool.actions(action="rotation.run.rollback")[-1]
    assert "bad deploy" == ended["reason"]


def test_one_that_waits_for_a_person_is_taken_back(project, quick):
    """Nothing was made yet, so that nothing is to be brought back."""
    assert 0 == quick("rotate", "api").code
    back = quick("rollback", "api")
    assert (0, True) == (back.code, "version 1 is current" in back.text), back.text
    assert 0 == quick("rotate", "api", "--from-file", "-", stdin=b"test-api-new-Qq1Ww2Ee3").code


def test_once_the_old_one_is_being_ended_it_is_refused(tool, quick):
    """With the ways out, which work."""
    install(tool, KEEPING)
    assert 1 == quick("rotate", "tool", "--now").code
    refused = quick("rollback", "tool")
    assert 5 == refused.code, refused.text
    assert "version 1 may have been ended already" in refused.text
    assert "--give-up" in refused.text and "--to 1" in refused.text
    assert 0 == quick("rotate", "tool", "-e", "development", "--give-up", "--yes").code
    assert 0 == quick("rollback", "tool", "-e", "development", "--to", "1").code
    assert FIRST == quick("get", "tool").out


def test_another_version_waits_until_the_rotation_has_ended(tool, quick):
    """A version of one's choice is no way back; both ways to end the rotation are named."""
    quick("rotate", "tool")
    for words in (("rollback", "tool", "--to", "1"), ("set", "tool", "-")):
        refused = quick(*words, stdin=b"test-tool-by-hand-Aa1Bb2Cc3")
        assert 5 == refused.code, refused.text
        assert "or turn it back: `keyturn rollback tool -e development`" in refused.text
    assert 2 == len(accepted(tool))


# --- keys that a rotation ended ----------------------------------------------------------------

JWT = """
[secrets.signing]
kind = "jwt-signing-key"
fields = { private_key = "JWT_KEY", public_key = "JWT_PUB", jwks = "JWT_SET", kid = "JWT_KID" }
target = { algorithm = "ES256" }
"""


@pytest.fixture
def signing(project, quick):
    """A project whose signing key was rotated twice: versions 4 and 7 signed alone."""
    project.manifest.write_text(project.manifest.read_text() + JWT)
    assert 0 == quick("generate", "signing").code
    for _ in range(2):
        assert 0 == quick("rotate", "signing", "--now").code
    return project


def test_a_version_with_a_retired_signing_key_does_not_come_back(signing, quick):
    """Neither those that it signed with, nor those of the phases, whose set has it."""
    for number in (1, 4, 5, 6):
        refused = quick("rollback", "signing", "--to", str(number))
        assert 1 == refused.code, number
        assert "a key that was ended would be in use again" in refused.text
    assert b"version 7" in quick("test", "signing").out


@pytest.mark.parametrize("number", [4, 6])
def test_a_retired_signing_key_that_is_published_is_found(signing, quick, number):
    """Somebody insisted: the test names the version whose key verifiers know again."""
    clean = quick("test", "signing")
    assert (0, True) == (clean.code, b"retired" in clean.out), clean.out
    assert 0 == quick("rollback", "signing", "--to", str(number), "--force").code
    found = quick("test", "signing")
    words = "is in use again" if number == 4 else "is no longer in use and still works"
    assert 1 == found.code
    assert f"version 4 {'was ended by a rotation and ' if number == 4 else ''}{words}" in (
        found.out.decode()
    )
    assert 0 == quick("rotate", "signing", "--now").code
    assert 0 == quick("test", "signing").code


def test_a_retired_session_secret_does_not_come_back(project, quick):
    """What was set by hand after the rotation may be undone, and no more."""
    assert 0 == quick("rotate", "session", "--now").code
    assert 1 == quick("rollback", "session").code
    project.put("session", b"test-session-by-hand-Aa1Bb2Cc3Dd4Ee5Ff6")
    assert 0 == quick("rollback", "session").code
