"""Whether a delivered copy is the one that would be delivered now."""

from __future__ import annotations

import json
import os

import pytest

from keyturn.core.value import SecretValue
from keyturn.deliver import Format, render
from keyturn.verify import DeliveredCopy, Severity, check_delivered

CANARY = b"canary-in-a-copy"


def content(form=Format.DOTENV, versions=None, value=CANARY):
    return render(form, {"TOKEN": SecretValue(value)}, versions or {"db": 3, "jwt": 1})


@pytest.fixture
def copy(tmp_path):
    """A copy as it ought to be, in the place where it ought to be."""
    path = tmp_path / "x.env"
    path.write_bytes(content().reveal())
    path.chmod(0o600)
    return DeliveredCopy("backend", path, content(), 0o600)


def found(copy):
    findings = check_delivered(copy)
    assert all(Severity.BAD is finding.severity for finding in findings)
    assert all("backend" == finding.subject for finding in findings)
    assert CANARY.decode() not in str(findings)
    return [(finding.code, finding.message) for finding in findings]


def test_an_absent_copy_is_found(copy):
    """Never delivered, or removed."""
    copy.path.unlink()
    assert [("delivered.absent", "is absent")] == found(copy)


@pytest.mark.parametrize("form", [Format.DOTENV, Format.JSON, Format.SHELL])
def test_a_stale_copy_tells_which_version_it_holds(copy, form):
    """The versions on both sides are named; nothing else of the content is."""
    copy.path.write_bytes(content(form, {"db": 2, "jwt": 1}).reveal())
    copy = DeliveredCopy("backend", copy.path, content(form), 0o600)
    words = "content differs: it holds db=2 jwt=1 and ought to hold db=3 jwt=1"
    assert [("delivered.stale", words)] == found(copy)


@pytest.mark.parametrize(
    "stands",
    [
        b"",
        CANARY,
        content().reveal() + b"X=1\n",
        content().reveal()[:-1],
        b"KEYTURN_VERSIONS=" + CANARY + b"\n",
        b"KEYTURN_VERSIONS=db=canary\n",
        b"A='KEYTURN_VERSIONS=db=1\n'\nKEYTURN_VERSIONS=db=2\n",
        json.dumps({"KEYTURN_VERSIONS": [CANARY.decode()]}).encode(),
    ],
)
def test_a_changed_copy_is_found_without_quoting_it(copy, stands):
    """What somebody else wrote there is not repeated, not even in part."""
    copy.path.write_bytes(stands)
    assert [("delivered.stale", "content differs")] == found(copy)


def test_mode_and_owner_are_compared(copy):
    """Readable by others, or belonging to somebody else."""
    copy.path.chmod(0o644)
    wanted = DeliveredCopy("backend", copy.path, content(), 0o600, uid=54321, gid=54322)
    assert [
        ("delivered.attributes", "mode is 0644 instead of 0600"),
        ("delivered.attributes", f"owner is uid {os.getuid()} instead of 54321"),
        ("delivered.attributes", f"group is gid {copy.path.stat().st_gid} instead of 54322"),
    ] == found(wanted)


def test_a_link_is_not_followed(copy, tmp_path):
    """A copy that is a link to the right content is not the file that was delivered."""
    copy.path.rename(tmp_path / "elsewhere")
    copy.path.symlink_to("elsewhere")
    assert [("delivered.attributes", "is a symbolic link")] == found(copy)


def test_a_fresh_copy_is_left_alone(copy):
    """Same bytes, same mode, same owner."""
    assert [] == found(copy)
    status = copy.path.stat()
    exact = DeliveredCopy("backend", copy.path, content(), 0o600, status.st_uid, status.st_gid)
    assert [] == found(exact)
