"""A rehearsal says what it could not end, and what it left is ended later."""

from __future__ import annotations

from keyturn.core.ids import EnvironmentName, SecretName
from keyturn.core.model import SecretRef
from keyturn.errors import NotYet, OutcomeUnknown, Rejected, Unavailable, VerificationFailed
from keyturn.rotate import State, rehearsal_token, rehearse
from tests.unit.rotate.rotating import VALUE, Rotating, Target, TargetKind
from tests.unit.stores.workshop import DB

TOKEN = rehearsal_token(DB)
REFUSED = Rejected("`admin` may not delete", hint="give it the right to delete")


class Named(TargetKind):
    """A kind at whose target a person finds what was made."""

    def whereabouts(self, pending):
        return "the key `k1`", "delete it in the console"


def kind_with(make=TargetKind, **failures):
    """Return a kind whose steps meet *failures*."""
    kind = make(Target(overlapping=True, accepted=set()))
    kind.failures.update({step: list(errors) for step, errors in failures.items()})
    return kind


def lines_of(kind):
    return {line.step: line for line in rehearse(kind, None, token=TOKEN)}


def test_what_is_left_is_named_with_its_state_and_its_end():
    """It works, says the target; the line counts as a failure."""
    left = lines_of(kind_with(Named, withdraw=[REFUSED]))["left"]
    assert "the key `k1` is left at the target, and it works" == left.text
    assert ("rotation.left", "delete it in the console") == (left.failure.code, left.failure.hint)


def test_where_nobody_answers_it_may_work():
    """A target that does not answer leaves it open."""
    kind = kind_with(withdraw=[REFUSED])
    kind.probe = lambda values: (_ for _ in ()).throw(Unavailable("no answer"))
    left = lines_of(kind)["left"]
    assert "the throw-away credential is left at the target, and it may work" == left.text
    assert "end it at the target" == left.failure.hint


def test_what_is_refused_already_is_not_said_to_be_left():
    """The withdrawal failed after it had ended the credential."""
    kind = kind_with(withdraw=[REFUSED])
    kind.probe = lambda values: (_ for _ in ()).throw(VerificationFailed("no"))
    assert "left" not in lines_of(kind)


def test_a_withdrawal_that_waits_for_a_person_is_left_too():
    """To wait is not to have ended it."""
    lines = lines_of(kind_with(withdraw=[NotYet("a person deletes it", person=True)]))
    assert lines["withdraw"].failure is not None
    assert "it works" in lines["left"].text
    assert "prove" not in lines


def test_nothing_is_left_where_nothing_was_made():
    """A refusal made nothing; a lost answer may have, and its clean-up failed."""
    refused = lines_of(kind_with(create=[REFUSED], clean_up=[REFUSED]))
    assert ["create", "clean up"] == list(refused)
    lost = lines_of(kind_with(create=[OutcomeUnknown("lost")], clean_up=[REFUSED]))
    assert "may have been made" in lost["left"].text
    assert lost["left"].failure is not None
    settled = lines_of(kind_with(create=[OutcomeUnknown("lost")]))
    assert "left" not in settled


def test_a_rehearsal_that_went_well_leaves_nothing():
    """Its last line is the proof."""
    lines = lines_of(kind_with())
    assert ["create", "apply", "check", "withdraw", "prove"] == list(lines)
    assert all(line.failure is None for line in lines.values())


def test_one_token_for_all_rehearsals_of_a_secret():
    """And another for another secret or environment; a name at a vendor says what it is of."""
    elsewhere = SecretRef(EnvironmentName("staging"), DB.name)
    other = SecretRef(DB.environment, SecretName("web"))
    assert TOKEN == rehearsal_token(DB)
    assert 3 == len({TOKEN, rehearsal_token(elsewhere), rehearsal_token(other)})
    assert TOKEN.startswith("rehearse") and 32 == len(TOKEN)


def test_a_rotation_sweeps_what_a_rehearsal_left(tmp_path):
    """Before it makes anything, and what is in use is spared."""
    rotating = Rotating(tmp_path)
    swept = []
    meet = rotating.kind.sweep

    def sweep(token, *, current):
        swept.append((token, current[VALUE].reveal()))
        meet(token, current=current)

    rotating.kind.sweep = sweep
    try:
        old = rotating.current_value()
        runner = rotating.runner(swept=(TOKEN,))
        done = runner.start(DB, rotating.kind, rotating.plan())
        assert State.DONE is done.rotation.state
        assert (TOKEN, old) == swept[0]
    finally:
        rotating.close()
