"""What labels and version ids of AWS say, and the forms that values take there."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.value import SecretValue
from keyturn.errors import Rejected
from keyturn.stores._aws_record import (
    FLOOR_TAG,
    NOTHING_ID,
    Mark,
    birth_label,
    decode,
    encode,
    number_of_id,
    origin_of_id,
    sight_of,
    token_digest,
    token_of_id,
    version_id,
)

REF = SecretRef(EnvironmentName("production"), SecretName("db"))
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
DIGEST = "0123456789abcdef0123456789abcdef"
FIELDS = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True).map(FieldName)
DATA = st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda t: t.encode()))


def mark(number, *, digest=DIGEST, fields=("password",)):
    """Return the mark of version *number*."""
    names = tuple(FieldName(name) for name in fields)
    id_ = version_id(number, Origin.ROTATED, digest)
    return Mark(id_, number, Origin.ROTATED, "s", NOW, names)


def seen(labels, **tags):
    """Return what an answer with those labels shows."""
    told = [{"Key": key.replace("_", ":"), "Value": text} for key, text in tags.items()]
    return sight_of(REF, {"VersionIdsToStages": labels, "Tags": told})


@given(st.integers(1, 99_999_999), st.sampled_from(list(Origin)))
def test_version_id_tells_number_and_origin(number, origin):
    """And is of a length that AWS takes as a client request token."""
    id_ = version_id(number, origin, DIGEST)
    assert 32 <= len(id_) <= 64
    assert (number_of_id(id_), origin_of_id(id_), token_of_id(id_)) == (number, origin, DIGEST)


def test_ids_of_others_tell_nothing():
    """Neither AWS's own ids nor the version that stands for nothing have a number."""
    for id_ in ("7c9d0d4e-2c0f-4a8e-9a51-0f3f5b1a7a11", NOTHING_ID, "kt1-1-r-" + DIGEST):
        assert number_of_id(id_) is None
        assert origin_of_id(id_) is None
        assert token_of_id(id_) is None
    assert 32 <= len(NOTHING_ID) <= 64


def test_one_token_is_one_secrets():
    """The same token of another secret, environment or project is another digest."""
    elsewhere = SecretRef(EnvironmentName("development"), REF.name)
    digests = {
        token_digest("p", REF, Token("t")),
        token_digest("p", REF, Token("u")),
        token_digest("p", elsewhere, Token("t")),
        token_digest("q", REF, Token("t")),
    }
    assert len(digests) == 4


def test_mark_survives_its_label():
    """Everything that is known of a version comes back from its label."""
    made = mark(7, fields=("password", "username"))
    assert Mark.find(made.id, ["AWSCURRENT", made.label]) == made
    assert Mark.find(made.id, ["AWSCURRENT", "keyturn/2/7"]) is None


def test_too_many_field_names_are_refused():
    """A label of AWS has 256 characters."""
    made = mark(7, fields=tuple(f"a_field_of_some_length_{n}" for n in range(12)))
    with pytest.raises(Rejected, match="too long together"):
        made.check(REF)
    mark(7, fields=("password", "username")).check(REF)


def test_begun_version_counts_for_nobody():
    """Born and not pending, it is no version yet, and its number is free."""
    made = mark(3)
    sight = seen({made.id: [made.label, birth_label(made.id)], NOTHING_ID: ["AWSCURRENT"]})
    assert sight.state.next_number == 1
    assert sight.births == {made.id: made}
    pending = seen({made.id: [made.label, birth_label(made.id), "AWSPENDING"]})
    assert (pending.state.pending, pending.state.next_number) == (3, 4)


def test_number_of_two_versions_is_seen():
    """Whoever is pending with a number that was taken is told."""
    ours, theirs = mark(3), mark(3, digest="f" * 32)
    labels = {
        ours.id: [ours.label, birth_label(ours.id), "AWSPENDING"],
        theirs.id: [theirs.label],
    }
    assert seen(labels).rivals(ours)
    labels[theirs.id].append(birth_label(theirs.id))
    assert not seen(labels).rivals(ours)


def test_pending_beside_current_is_not_pending():
    """As to AWS: the label rests on what was promoted last."""
    made = mark(1)
    state = seen({made.id: [made.label, "AWSCURRENT", "AWSPENDING"]}).state
    assert (state.current, state.pending) == (1, None)


def test_recorded_version_of_a_drifted_secret_is_what_was_moved_aside():
    """Whoever takes `AWSCURRENT` leaves `AWSPREVIOUS` on ours."""
    made = mark(4)
    foreign = "7c9d0d4e-2c0f-4a8e-9a51-0f3f5b1a7a11"
    sight = seen({made.id: [made.label, "AWSPREVIOUS"], foreign: ["AWSCURRENT"]})
    assert sight.foreign
    assert (sight.state.current, sight.state.previous) == (4, None)
    assert not seen({NOTHING_ID: ["AWSCURRENT"]}).foreign


def test_floor_keeps_numbers_taken():
    """A tag remembers what AWS has dropped; nonsense in it is no number."""
    made = mark(2)
    labels = {made.id: [made.label]}
    assert FLOOR_TAG == "keyturn:floor"
    assert seen(labels, keyturn_floor="9").next_number == 10
    assert seen(labels, keyturn_floor="nine").next_number == 3


@given(st.dictionaries(FIELDS, DATA, min_size=1, max_size=6), st.booleans())
def test_values_come_back_exactly(plain, json_always):
    """Any bytes in any fields, in either layout."""
    values = {name: SecretValue(data) for name, data in plain.items()}
    form, content = encode(REF, values, json_always=json_always)
    (carried,) = content.values()
    assert carried, "AWS takes no empty value"
    assert decode(content, form, tuple(sorted(plain))) == values


def test_single_text_is_the_string_itself():
    """An application reads it without taking anything apart."""
    values = {FieldName("value"): SecretValue(b'{"looks": "like JSON"}')}
    assert encode(REF, values, json_always=False) == (
        "s",
        {"SecretString": '{"looks": "like JSON"}'},
    )


def test_what_is_not_there_is_none():
    """A document of somebody else that lacks a field, or is none, gives nothing."""
    name = FieldName("password")
    for text in ('{"username": "u"}', "not json", "[]", '{"password.base64": "!"}', "3"):
        assert decode({"SecretString": text}, "j", (name,)) is None
    assert decode({"SecretString": "x"}, "b", (name,)) is None
    assert decode({"SecretBinary": b"x"}, "s", (name,)) is None


def test_numbers_in_documents_of_others_are_read():
    """Others put ports there without quotes."""
    found = decode({"SecretString": '{"port": 5432}'}, "j", (FieldName("port"),))
    assert found == {FieldName("port"): SecretValue(b"5432")}
