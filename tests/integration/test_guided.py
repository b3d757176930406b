"""Values that a person fetches and that nothing can try."""

from __future__ import annotations

import traceback
from dataclasses import replace

import pytest

from keyturn.core.ids import FieldName
from keyturn.core.value import SecretValue
from keyturn.errors import NotYet, UsageError, VerificationFailed
from tests.worlds import guided
from tests.worlds.base import Supplied, kind_in, secret_values, texts_of
from tests.worlds.vendor_keys import TOKEN


@pytest.fixture()
def world():
    return guided.open_world()


@pytest.fixture()
def kind(world):
    return kind_in(world.setup)


@pytest.fixture()
def current(world):
    return secret_values(world.setup.first)


def test_a_rotation_left_and_taken_up_again(world, kind, current):
    """Without somebody there it waits; with the value it goes on, and says what it cannot do."""
    with pytest.raises(NotYet) as caught:
        kind.create(current, token=TOKEN)
    assert (caught.value.person, caught.value.again_seconds) == (True, None)
    assert "ask the porter for a new password" in caught.value.message
    assert "keyturn rotate --resume it -e production" in caught.value.hint

    values = world.supply()
    taker = kind_in(world.setup, supplier=Supplied(values))
    new = taker.create(current, token=TOKEN)
    assert values == texts_of(new)
    kind.apply(current, new)
    assert "not tried" == kind.check(current, new).method
    assert world.use(world.setup.first)
    kind.retire(new, current)
    assert "not proven" == kind.prove_dead(current, current=new).method
    world.person_ends_old()
    assert world.use(values)
    assert not world.use(world.setup.first)


def test_without_instructions_the_fields_are_named(world):
    """What to do is said in general, and what not to end yet."""
    kind = kind_in(replace(world.setup, target={}, fields=("username", "password")))
    lines = [text for step, text in kind.describe({}) if step == "create"]
    assert "`username` and `password`" in lines[0]
    assert "leave the present one" in lines[1]
    assert ["create", "check"] == [step for step, _ in kind.describe(None)]


def test_one_line_of_instructions(world):
    """A single line needs no list."""
    kind = kind_in(replace(world.setup, target={"instructions": "ask the porter"}))
    assert ("create", "ask the porter") == kind.describe(None)[0]


@pytest.mark.parametrize("instructions", [5, [5], ["x"] * 21, ["a\x1b[2J"]])
def test_instructions_that_are_none_are_told(world, instructions):
    """They are shown on a terminal: a few lines of text."""
    with pytest.raises(UsageError) as caught:
        kind_in(replace(world.setup, target={"instructions": instructions}))
    assert "instructions = [" in caught.value.hint


@pytest.mark.parametrize("text", ["", "changeme", "<your key>", "xxxxxxxx"])
def test_what_only_stands_for_a_value_is_refused(world, current, text):
    """An empty answer or a placeholder is not stored."""
    kind = kind_in(world.setup, supplier=Supplied({"value": text}))
    with pytest.raises(VerificationFailed) as caught:
        kind.create(current, token=TOKEN)
    assert caught.value.code == "value.form"


def test_a_missing_field_is_refused(world):
    """All fields of a version change together."""
    setup = replace(world.setup, fields=("username", "password"))
    kind = kind_in(setup, supplier=Supplied({"username": "postgres"}))
    with pytest.raises(VerificationFailed) as caught:
        kind.create(None, token=TOKEN)
    assert "`password`" in caught.value.message


def test_a_plain_word_is_a_good_username(world):
    """Only the secret parts have to look like one; one that stays may stay."""
    setup = replace(world.setup, fields=("username", "password"))
    values = {"username": "admin", "password": world.supply()["value"]}
    old = secret_values({"username": "admin", "password": world.setup.first["value"]})
    kind = kind_in(setup, supplier=Supplied(values))
    assert values == texts_of(kind.create(old, token=TOKEN))


def test_bytes_and_lines_are_values_too(world, current):
    """Of an opaque value no form is certain."""
    value = SecretValue(b"\xff\x00\n-----\n" * 9)

    class Bytes:
        def supply(self, instructions, fields, examine):
            values = {FieldName("value"): value}
            examine(values)
            return values

    kind = kind_in(world.setup, supplier=Bytes())
    assert {"value": value} == kind.create(current, token=TOKEN)


def test_the_old_value_again_is_refused(world, current):
    """And the refusal does not show it."""
    kind = kind_in(world.setup, supplier=Supplied(world.setup.first))
    with pytest.raises(VerificationFailed) as caught:
        kind.create(current, token=TOKEN)
    assert caught.value.code == "value.old"
    shown = "".join(traceback.format_exception(caught.value))
    assert world.setup.first["value"] not in shown


def test_the_way_back_and_the_probe(world, kind, current):
    """Nothing can be undone or tried; a value that only stands for one is told."""
    kind.withdraw(current, secret_values(world.supply()))
    assert world.use(world.setup.first)
    assert "not tried" == kind.probe(current).method
    with pytest.raises(VerificationFailed):
        kind.probe(secret_values({"value": "changeme"}))
    assert kind.rehearsal() is None
