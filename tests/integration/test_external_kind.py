"""The kind `external`: a plug-in that is found, one that is not, and the example's own."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from keyturn import kinds
from keyturn.cli.exits import Exit, exit_of
from keyturn.core.ids import Token
from keyturn.errors import (
    KeyturnError,
    NotYet,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    UsageError,
)
from keyturn.errors import VerificationFailed as Failed
from tests.worlds.acme import EXAMPLE
from tests.worlds.base import Setup, kind_in, secret_values, texts_of
from tests.worlds.external import ExternalWorld

TOKEN = Token("0123456789abcdef")


@pytest.fixture
def world():
    """The example's plug-in and its service."""
    opened = ExternalWorld()
    yield opened
    opened.close()


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Return a function that installs a plug-in of one module, and builds its kind."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def build(text, *, where="stranger:build", name="it", package="stranger"):
        (tmp_path / "stranger.py").write_text(text)
        metadata = tmp_path / f"{package}-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (metadata / "entry_points.txt").write_text(f"[keyturn.kinds]\n{name} = {where}\n")
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "stranger", raising=False)
        return kind_in(setup_of(plugin=name))

    yield build
    sys.modules.pop("stranger", None)


def setup_of(**target):
    return Setup("external", ("value",), target, {"value": "first"})


# --- the example ----------------------------------------------------------------------


def test_a_password_takes_the_others_place(world):
    """One made by hand has no id: the service tells it by the password itself."""
    kind, old = kind_in(world.setup), secret_values(world.service.first)
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    kind.check(old, pending)
    assert world.use(texts_of(pending)) and world.use(world.service.first)
    assert "password_id" in texts_of(pending)
    kind.retire(pending, old)
    kind.retire(pending, old)
    kind.prove_dead(old, current=pending)
    assert world.use(texts_of(pending)) and not world.use(world.service.first)
    assert 4 == len(kind.describe(old))


def test_the_same_token_leaves_no_orphan(world):
    """The next try ends what the lost answer made; so does cleaning up."""
    kind, old = kind_in(world.setup), secret_values(world.service.first)
    kind.create(old, token=TOKEN)
    pending = kind.create(old, token=TOKEN)
    assert ["by hand", "keyturn-it-0123456789ab"] == world.service.labels()
    assert world.use(texts_of(pending))
    kind.clean_up(TOKEN, current=None)
    assert ["by hand"] == world.service.labels()


def test_rehearsal_leaves_no_trace(world):
    """And withdrawing twice is as withdrawing once."""
    kind, old = kind_in(world.setup).rehearsal(), secret_values(world.service.first)
    pending = kind.create(old, token=TOKEN)
    kind.apply(old, pending)
    kind.check(old, pending)
    kind.withdraw(old, pending)
    kind.withdraw(old, pending)
    kind.prove_dead(pending, current=old)
    assert ["by hand"] == world.service.labels() and world.use(world.service.first)


def test_its_refusals(world):
    """A live old password, a full account, a wrong administrator, no service."""
    kind, old = kind_in(world.setup), secret_values(world.service.first)
    with pytest.raises(Failed) as caught:
        kind.prove_dead(old)
    assert "target.still-works" == caught.value.code
    denied = kind_in(dataclasses.replace(world.setup, admin={"password": "wrong-password"}))
    with pytest.raises(Rejected) as caught:
        denied.create(old, token=TOKEN)
    assert "target.login-refused" == caught.value.code
    assert "wrong-password" not in str(caught.value)
    with pytest.raises(Failed):
        kind.probe({**old, **secret_values({"password": "another"})})
    for number in range(3):
        world.service.make(f"other {number}")
    with pytest.raises(Rejected, match="4 passwords"):
        kind.create(old, token=TOKEN)
    world.service.process.terminate()
    world.service.process.wait(10)
    for step in (kind.probe, kind.prove_dead):
        with pytest.raises(Unavailable):
            step(old)


def test_a_target_without_address_or_administrator_is_refused(world):
    """By the plug-in itself, with the line to write."""
    with pytest.raises(UsageError, match="address") as caught:
        kind_in(dataclasses.replace(world.setup, target={"plugin": "acme-users"}))
    assert "options" in caught.value.hint
    with pytest.raises(UsageError, match="administrator"):
        kind_in(dataclasses.replace(world.setup, admin=None))


def test_the_example_builds_and_is_found_by_another_process(tmp_path):
    """The real wheel, unpacked beside Keyturn."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=EXAMPLE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == done.returncode, done.stderr
    wheel = next(tmp_path.glob("*.whl"))
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    text = (
        "from importlib.metadata import entry_points;"
        "print(entry_points(group='keyturn.kinds')['acme-users'].load().__module__)"
    )
    found = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "acme_kind\n" == found.stdout, found.stderr


def test_the_example_needs_the_public_door_alone():
    """What it imports of Keyturn is `keyturn.kinds`, and all of that is there."""
    text = (EXAMPLE / "src" / "acme_kind" / "__init__.py").read_text()
    lines = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert ["from keyturn.kinds import ("] == [line for line in lines if "keyturn" in line]
    assert [] == [name for name in kinds.__all__ if not hasattr(kinds, name)]


# --- what can be wrong ----------------------------------------------------------------


def test_a_plug_in_that_is_not_installed_is_named(world):
    """With those that are."""
    with pytest.raises(UsageError, match="no plug-in `other`") as caught:
        kind_in(setup_of(plugin="other"))
    assert "rotation.plugin" == caught.value.code and "acme-users" in caught.value.hint


def test_no_plug_in_is_named():
    """The target has to say which."""
    for target in ({}, {"plugin": ""}, {"plugin": 7}):
        with pytest.raises(UsageError, match="names no `plugin`") as caught:
            kind_in(setup_of(**target))
        assert "rotation.target" == caught.value.code


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import a_library_that_is_absent", "a_library_that_is_absent"),
        ("1 / 0", "ZeroDivisionError"),
        ("def other(context): ...", "build"),
        ("build = 7", "is no function"),
        ("def build(context): return None", "makes no kind"),
        (
            "import keyturn.kinds\ndef build(context): return keyturn.kinds.OnePhase()",
            "`apply`, `check`, `create`",
        ),
        (
            "def build(context):\n    raise ValueError('canary-value')",
            "failed in `build`: ValueError at stranger.py:2",
        ),
    ],
)
def test_a_plug_in_that_is_broken_is_told_from_ours(plugin, text, words):
    """What is wrong with it is said, without what it may have quoted."""
    with pytest.raises(UsageError) as caught:
        plugin(text)
    assert words in caught.value.message and "plug-in `it`" in caught.value.message
    assert "rotation.plugin" == caught.value.code
    assert "canary-value" not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_two_plug_ins_of_one_name_are_refused(plugin):
    """Nothing says which is meant, and one of them would be given values."""
    with pytest.raises(UsageError):
        plugin("def build(context): return None")
    with pytest.raises(UsageError, match="more than one plug-in `it`: in another, stranger"):
        plugin("def build(context): return None", package="another")


def test_a_plug_ins_own_errors_pass_as_they_are(plugin):
    """They are Keyturn's own."""
    with pytest.raises(Rejected, match="not like this"):
        plugin(
            "from keyturn.kinds import Rejected\n"
            "def build(context): raise Rejected('not like this')"
        )


STRANGER = """
from keyturn.kinds import OnePhase

class Kind(OnePhase):
    def describe(self, current): return [("create", 7)]
    def create(self, current, *, token): return {STEP_create}
    def apply(self, current, pending): {STEP_apply}
    def check(self, current, pending): return None
    def probe(self, values): return len(values, "canary-value")
    def withdraw(self, current, pending): ...
    def retire(self, current, old): raise ValueError("canary-value")
    def prove_dead(self, old, *, current=None): return True

def build(context): return Kind()
"""


@pytest.mark.parametrize(
    ("step", "act", "words"),
    [
        ("probe", lambda kind: kind.probe({}), "TypeError at stranger.py:"),
        ("retire", lambda kind: kind.retire({}, {}), "ValueError at stranger.py:"),
        ("check", lambda kind: kind.check(None, {}), "it returns NoneType, not Evidence"),
        ("prove_dead", lambda kind: kind.prove_dead({}), "it returns bool, not Evidence"),
        ("create", lambda kind: kind.create(None, token=TOKEN), "it returns no values"),
        ("apply", lambda kind: kind.apply(None, {}), "ConnectionResetError"),
        ("advance", lambda kind: kind.advance({}, None), "a kind of one phase"),
    ],
)
def test_a_fault_in_a_step_is_the_plug_ins(plugin, step, act, words):
    """Plug-in, distribution, step and place are named; it is no fault of Keyturn's."""
    text = STRANGER.replace("{STEP_create}", "{'value': 'canary-value'}")
    kind = plugin(text.replace("{STEP_apply}", "raise ConnectionResetError('canary-value')"))
    with pytest.raises(KeyturnError) as caught:
        act(kind)
    error = caught.value
    if step != "advance":
        assert f"plug-in `it` of `stranger 1` failed in `{step}`: {words}" in error.message
        assert ("rotation.plugin", Exit.BAD) == (error.code, exit_of(error))
    assert "canary-value" not in f"{error!r}{error.hint}"
    assert [("create", "7")] == kind.describe(None)
    assert kind.rehearsal() is None


def test_a_rehearsal_of_a_plug_in_is_guarded_too(plugin):
    """What it gives out for a throw-away credential is its own as well."""
    text = STRANGER.replace("{STEP_create}", "{}").replace("{STEP_apply}", "1 / 0")
    kind = plugin(
        text.replace(
            "class Kind(OnePhase):", "class Kind(OnePhase):\n    def rehearsal(self): return self"
        )
    )
    with pytest.raises(Rejected, match=r"`stranger 1` failed in `apply`: ZeroDivisionError"):
        kind.rehearsal().apply(None, {})


def test_a_lost_answer_is_unknown(world):
    """The service took the request and died: the kind says so, and asks for a person nowhere."""
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            # The listing is answered, the making is not.
            for answer in (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n[]", b""):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        setup = dataclasses.replace(
            world.setup, target={"plugin": "acme-users", "options": {"url": url, "user": "robin"}}
        )
        with pytest.raises(OutcomeUnknown):
            kind_in(setup).create(None, token=TOKEN)
        thread.join()
    assert not issubclass(OutcomeUnknown, NotYet)
    assert Path(EXAMPLE / "README.md").exists()
