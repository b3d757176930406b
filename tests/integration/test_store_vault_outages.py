"""Rotations in a Vault store that is away, overrun, or refuses the token half-way."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from keyturn.core.ids import SecretName
from keyturn.core.model import SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import Unavailable
from keyturn.rotate import State
from keyturn.rotate.saga import Step
from keyturn.stores.vault import AuthMethod, Surroundings, VaultAuth, VaultSettings, policy
from keyturn.testing import FakeClock
from keyturn.testing.simulators import Fault, Reply
from tests.unit.stores.workshop import Workshop
from tests.worlds.relay import Relay
from tests.worlds.rotating_store import VALUE, Machine
from tests.worlds.vault_fixtures import running, world
from tests.worlds.vault_store import ENVIRONMENT, nobody

__all__ = ["running", "world"]

DB = SecretRef(ENVIRONMENT, SecretName("db"))
TEN_MINUTES = 600
ROTATIONS = 25
# Those of a rotation that goes well, and whose work the store has a part in.
FORWARD = [Step.CREATE, Step.APPLY, Step.CHECK, Step.PROMOTE, Step.DELIVER, Step.RETIRE, Step.PROVE]
PAST_RETURN = {Step.RETIRE, Step.PROVE}
NOBODY = Surroundings(nobody, {}, Path("/nonexistent"))


class Storm:
    """What goes wrong with a request, by chance, as often as not with one that changes something."""

    BEFORE = (412, 429, 473, 500, 502, 503)

    def __init__(self, chance):
        self.chance = chance
        self.count = 0

    def strike(self, request, carry_out):
        """Return an answer; None is none."""
        if self.chance.random() > (0.25 if request.method == "POST" else 0.1):
            return carry_out()
        self.count += 1
        kind = self.chance.choice(["before", "after", "lost", "nowhere"])
        if kind in {"after", "lost"}:
            carry_out()
        return None if kind in {"lost", "nowhere"} else Reply(self._status(kind), None)

    def _status(self, kind):
        # Of these, only a 5xx may come from a server that did the work.
        return self.chance.choice(self.BEFORE if kind == "before" else (500, 502, 504))


class Line(Relay):
    """A line to a server that is cut at times: what is sent then arrives nowhere."""

    is_cut = False
    storm = None
    _last = None

    def cut_after(self, start, *, skip=0):
        """Carry out the request after *skip* others that begins with *start*, and no more."""
        self._last = [start, skip]

    def respond(self, request):
        if self.is_cut:
            return None
        if self._last is not None and f"{request.method} {request.path}".startswith(self._last[0]):
            self._last[1] -= 1
            if self._last[1] < 0:
                self._last = None
                super().respond(request)
                self.is_cut = True
                return None
        if self.storm is not None:
            return self.storm.strike(request, lambda: super(Line, self).respond(request))
        return super().respond(request)


class Scene:
    """One secret whose first version is current, and a machine whose line can be cut."""

    def __init__(self, world, line, folder, **settings):
        self.world = world
        self.line = line
        self.clock = FakeClock()
        self.told = []
        self.at = {}
        self.workshop = Workshop(folder)
        self.store = world.store(addresses=(line.base_url,), clock=self.clock, **settings)
        self.machine = Machine(
            self.workshop.create(), self.store, clock=self.clock, told=self._told
        )
        assert self.machine.start(DB).rotation.state is State.DONE

    def _told(self, progress):
        self.told.append(progress)
        if progress.event == "begun" and progress.step in self.at:
            self.at.pop(progress.step)()

    def cut(self):
        self.line.is_cut = True

    def mend(self):
        self.line.is_cut = False

    def end(self):
        """Resume until it has ended, as timers do."""
        report = self.machine.resume(DB)
        assert not report.rotation.is_open, (report.rotation, report.failure)
        return report

    def check(self):
        """What is current is live, and nothing is left open."""
        state = self.store.state(DB)
        assert state.pending is None
        numbers = [version.number for version in self.store.history(DB)]
        assert numbers == list(range(state.next_number - 1, 0, -1))
        current = self.store.read(DB, Stage.CURRENT).values[VALUE]
        assert self.world.live() == {"db": current.reveal_text()}
        assert not self.store.drifts(ENVIRONMENT)
        assert self.machine.journal.all_live() == []


@pytest.fixture
def line(world):
    with Line(world.server.address, error={"errors": ["internal error"]}) as made:
        yield made
        world.close_stores()


@pytest.fixture
def scene(world, line, tmp_path):
    made = Scene(world, line, tmp_path)
    yield made
    made.workshop.close()


# --- away -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", FORWARD)
def test_the_store_is_away_for_ten_minutes(scene, step):
    """Wherever a rotation is by then: what it says is clear, and it ends when it is resumed."""
    before = scene.store.state(DB).current
    scene.at[step] = scene.cut
    report = scene.machine.start(DB)
    for _ in range(4):
        assert report.rotation.state is State.STUCK
        # By this the schedule knows that the next try may go better, and when to make it.
        assert report.failure.code == "store.unavailable"
        assert scene.line.base_url in report.failure.message
        assert scene.line.base_url in report.failure.hint
        scene.clock.advance(TEN_MINUTES / 4)
        report = scene.machine.resume(DB)
    scene.mend()
    ended = scene.end()
    assert ended.rotation.state is (State.DONE if step in PAST_RETURN else State.ROLLED_BACK)
    scene.check()
    went_on = ended.rotation.state is State.DONE
    assert scene.store.state(DB).current == (ended.rotation.new_version if went_on else before)
    assert scene.machine.start(DB).rotation.state is State.DONE
    scene.check()


def test_a_rotation_does_not_begin_while_the_store_is_away(scene):
    """The failure is the store's, and nothing is open that somebody would have to end."""
    plan = scene.machine.plan(DB)
    scene.cut()
    with pytest.raises(Unavailable) as raised:
        scene.machine.runner.start(DB, scene.machine.kind, plan)
    assert scene.line.base_url in raised.value.message
    assert scene.machine.journal.all_live() == []
    scene.mend()
    scene.check()


@pytest.mark.parametrize(
    ("document", "skip"), [("versions", 0), ("ledger", 0), ("live", 0), ("ledger", 1)]
)
def test_it_is_away_from_the_moment_that_a_write_was_made(scene, document, skip):
    """Nobody knows that it was made, until somebody can look."""
    path = "clipper" if document == "live" else f"keyturn/clipper/production/{document}"
    scene.line.cut_after(f"POST /v1/{scene.world.mount}/data/{path}", skip=skip)
    report = scene.machine.start(DB)
    assert scene.line.is_cut
    assert report.rotation.state is State.STUCK
    assert report.failure.code in {"store.unavailable", "outcome.unknown"}
    scene.clock.advance(TEN_MINUTES)
    scene.mend()
    scene.end()
    scene.check()


# --- storms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.BROKEN_AFTER, Fault.BROKEN_BEFORE, Fault.LATE])
@pytest.mark.parametrize("skip", range(5))
def test_one_lost_answer_is_not_noticed(scene, fault, skip):
    """Whichever write of the rotation it is."""
    scene.line.fail_next(f"POST /v1/{scene.world.mount}/data", fault, skip=skip)
    assert scene.machine.start(DB).rotation.state is State.DONE
    scene.line.catch_up()
    scene.check()


@pytest.mark.parametrize("seed", range(3))
def test_storms_of_every_weather(scene, seed):
    """429, 412, 5xx before and after the work, and no answer at all: every rotation ends."""
    ends = Counter()
    scene.line.storm = Storm(random.Random(seed))
    for _ in range(ROTATIONS):
        before = scene.store.state(DB).current
        report = scene.machine.start(DB)
        for _ in range(20):
            if not report.rotation.is_open:
                break
            ends["resumed"] += 1
            scene.clock.advance(60)
            report = scene.machine.resume(DB)
        ends[report.rotation.state] += 1
        if report.rotation.state is State.DONE:
            assert scene.store.state(DB).current == report.rotation.new_version
        else:
            assert scene.store.state(DB).current == before
    faults = scene.line.storm.count
    scene.line.storm = None
    print(f"{dict(ends)}, {faults} faults")
    assert faults > ROTATIONS
    assert ends[State.DONE] > ROTATIONS // 2
    assert ends[State.DONE] + ends[State.ROLLED_BACK] == ROTATIONS
    scene.check()


# --- tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", FORWARD)
def test_a_token_of_a_login_is_revoked_in_the_middle(world, line, tmp_path, step):
    """The AppRole logs in again, and nobody notices."""
    scene = Scene(world, line, tmp_path, auth=approle(world, tmp_path), around=NOBODY)
    scene.at[step] = lambda: revoke_all(world)
    logins = line.asked("POST /v1/auth/approle/login")
    assert scene.machine.start(DB).rotation.state is State.DONE
    assert line.asked("POST /v1/auth/approle/login") == logins + 1
    scene.check()
    scene.workshop.close()


@pytest.mark.parametrize("step", FORWARD)
def test_a_token_that_somebody_gave_is_revoked_in_the_middle(world, line, tmp_path, step):
    """What is wrong and where a new one goes is said; with that one the rotation ends."""
    file = tmp_path / "token"
    file.write_text(token(world).reveal_text())
    auth = VaultAuth(token_file=file)
    scene = Scene(world, line, tmp_path, auth=auth, around=NOBODY)
    scene.at[step] = lambda: revoke(world, file)
    report = scene.machine.start(DB)
    assert report.rotation.state is State.STUCK
    for _ in range(2):
        assert str(file) in report.failure.message
        assert "expired or was revoked" in report.failure.message
        assert "bao login" in report.failure.hint
        assert report.failure.code == "store.login-refused"
        report = scene.machine.resume(DB)
    file.write_text(token(world).reveal_text())
    ended = scene.end()
    assert ended.rotation.state is (State.DONE if step in PAST_RETURN else State.ROLLED_BACK)
    scene.check()
    scene.workshop.close()


def test_a_token_that_expires_in_the_middle_is_renewed(world, line, tmp_path):
    """A rotation that waits for longer than a token lives."""
    scene = Scene(
        world, line, tmp_path, auth=approle(world, tmp_path, token_ttl="3s"), around=NOBODY
    )
    scene.at[Step.DELIVER] = lambda: time.sleep(3.5)
    assert scene.machine.start(DB).rotation.state is State.DONE
    scene.check()
    scene.workshop.close()


def needed(world):
    settings = VaultSettings((world.server.address,), mount=world.mount)
    name = f"keyturn-{world.mount}"
    world.ask(
        "POST", f"sys/policies/acl/{name}", {"policy": policy(settings, "clipper", [ENVIRONMENT])}
    )
    return name


def token(world):
    made = world.ask("POST", "auth/token/create", {"policies": [needed(world)]})
    return SecretValue.from_text(made["auth"]["client_token"])


def revoke(world, file):
    world.ask("POST", "auth/token/revoke", {"token": file.read_text()})


def approle(world, folder, **settings):
    """Return how to log in as a role that may do what is documented."""
    role, mounts = "clipper", world.ask("GET", "sys/auth")["data"]
    if "approle/" not in mounts:
        world.ask("POST", "sys/auth/approle", {"type": "approle"})
    settings = {"token_policies": [needed(world)], "token_ttl": "1h", **settings}
    world.ask("POST", f"auth/approle/role/{role}", settings)
    role_id = world.ask("GET", f"auth/approle/role/{role}/role-id")["data"]["role_id"]
    made = world.ask("POST", f"auth/approle/role/{role}/secret-id", {})
    file = folder / "secret-id"
    file.write_text(made["data"]["secret_id"])
    return VaultAuth(AuthMethod.APPROLE, role_id=role_id, secret_id_file=file)


def revoke_all(world):
    """End every token that a login made."""
    world.ask("POST", "sys/leases/revoke-prefix/auth/approle", {})
