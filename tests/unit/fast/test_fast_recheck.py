"""Whether a bundle may outlive its short life: the stamp, and what each kind of store answers."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn import _fastread, fast
from keyturn._fastread import aws, vault
from keyturn._fastread.wire import Unreadable
from keyturn.core.model import Origin
from keyturn.stores._aws_record import NOTHING_ID, Mark, version_id

SEALED = b"sealed bytes of one bundle"
NOW = 1_800_000_000


def bundle(*, created=NOW - 100, lasts=60, rows=("kind vault",)):
    head = [f"created {created}", f"not_after {created + lasts}"]
    head += [f"recheck {row}" for row in rows]
    return fast.Bundle(b"\n".join([fast.BUNDLE_MARK, *(h.encode() for h in head)]) + b"\n\n")


@pytest.fixture
def asked(monkeypatch):
    """What the store is asked, and what it answers: nothing has changed."""
    calls = []
    monkeypatch.setattr(vault, "holds", lambda *given: calls.append(given) or True)
    return calls


def require(made, path, *, now=NOW, sealed=SEALED):
    _fastread.require_true(made, sealed, str(path), now, fast.read_private)


def test_it_is_asked_once_for_each_life(asked, tmp_path):
    """A stamp remembers it; at the end of that life it is asked again."""
    path = tmp_path / "fresh.x"
    for now, times in [(NOW, 1), (NOW, 1), (NOW + 59, 1), (NOW + 60, 2), (NOW + 61, 2)]:
        require(bundle(), path, now=now)
        assert times == len(asked)
    assert 0o600 == path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.unlink(),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(p.read_bytes()[:-2]),
        lambda p: p.write_bytes(p.read_bytes().replace(b"%d" % NOW, b"%d" % (NOW + 50))),
        lambda p: p.write_bytes(b"0" + p.read_bytes()),
        lambda p: p.write_bytes(_fastread.stamp(NOW, b"another bundle")),
        lambda p: p.chmod(0o604),
        lambda p: (p.rename(p.with_suffix(".y")), p.symlink_to(p.with_suffix(".y"))),
    ],
    ids=["gone", "empty", "torn", "later", "padded", "of another", "open to others", "a link"],
)
def test_a_stamp_says_nothing_where(spoil, asked, tmp_path):
    """It is not whole, not of this bundle, or not its owner's alone."""
    path = tmp_path / "fresh.x"
    require(bundle(), path)
    spoil(path)
    require(bundle(), path)
    assert 2 == len(asked)


def test_a_clock_that_was_set_back(asked, tmp_path):
    """A stamp of the future is none."""
    path = tmp_path / "fresh.x"
    require(bundle(), path)
    require(bundle(created=NOW - 2000), path, now=NOW - _fastread.SKEW_SECONDS - 1)
    assert 2 == len(asked)


def test_after_a_day_all_is_read_again(asked, tmp_path):
    """However often nothing had changed."""
    made = bundle(created=NOW - _fastread.LONGEST_SECONDS)
    with pytest.raises(ValueError, match="stale"):
        require(made, tmp_path / "fresh.x")
    assert [] == asked


@pytest.mark.parametrize("rows", [(), ("kind other",), ("host x", "kind vault")])
def test_what_cannot_be_asked_is_stale(rows, asked, tmp_path):
    """A bundle of an older Keyturn, or of a kind that is not known here."""
    with pytest.raises(ValueError, match="stale"):
        require(bundle(rows=rows), tmp_path / "fresh.x")
    assert [] == asked


def test_what_has_changed_is_stale(monkeypatch, tmp_path):
    """And is not remembered."""
    monkeypatch.setattr(vault, "holds", lambda *_: False)
    with pytest.raises(ValueError, match="something else"):
        require(bundle(), tmp_path / "fresh.x")
    assert [] == list(tmp_path.iterdir())


def test_a_stamp_that_cannot_be_written_hinders_nobody(asked, tmp_path):
    """The next one asks again."""
    require(bundle(), tmp_path / "absent" / "fresh.x")
    assert 1 == len(asked)


@given(st.binary(max_size=120))
def test_no_bytes_are_a_stamp_by_chance(data):
    """Whatever lies there."""
    assert 0 == _fastread.checked_at(data, SEALED)


# ---------------------------------------------------------------- Vault


@pytest.mark.parametrize(
    ("document", "holds"),
    [
        ({"a": "1", "b": "2"}, True),
        ({"a": "1", "b": "2", "others": 7}, True),
        ({"a": "1", "b": "3"}, False),
        ({"a": "1"}, False),
        ({"a": "1", "b": 2}, False),
        ({"a": "1", "b": "2", "none": "x"}, False),
        ({"a": "1", "b": "Mg==", "keyturn.base64": "b x"}, True),
        ({"a": "1", "b": "2", "keyturn.base64": "a"}, None),
        (None, False),
        ([], False),
    ],
)
def test_a_document_of_vault(document, holds):
    """Each field has to be what is sealed, and none of ours there that is not."""
    wanted, absent = {b"a": b"1", b"b": b"2"}, [b"none"]
    if holds is None:
        with pytest.raises(ValueError):
            vault._has(document, wanted, absent)
    else:
        assert holds == vault._has(document, wanted, absent)


# ---------------------------------------------------------------- AWS


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_keyed_digest(key, message):
    """As the standard library makes it."""
    assert hmac.digest(key, message, hashlib.sha256) == aws.keyed(key, message)


@pytest.mark.parametrize("session", [None, "a+session/token="])
def test_signature_is_the_sdks(session):
    """Header by header, of the same moment."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    body = b'{"SecretIdList":["clipper/production/db"]}'
    made = dict(
        aws.signed(
            b"localhost:4566",
            b"eu-central-1",
            (b"AKIAIOSFODNN7EXAMPLE", b"not-a-real-key/+", (session or "").encode()),
            b"20261124T120000Z",
            body,
        )
    )
    kept = {
        n.decode(): t.decode() for n, t in made.items() if n in {b"content-type", b"x-amz-target"}
    }
    request = AWSRequest("POST", "http://localhost:4566/", kept, body)
    request.context["timestamp"] = "20261124T120000Z"
    keys = Credentials("AKIAIOSFODNN7EXAMPLE", "not-a-real-key/+", session)
    moment = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda *_: moment)
        SigV4Auth(keys, "secretsmanager", "eu-central-1").add_auth(request)
    assert request.headers["Authorization"] == made[b"authorization"].decode()


MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


def entry(number=7, *, labels=("AWSCURRENT",), origin=Origin.ROTATED, at=MOMENT, id_=None):
    id_ = id_ or version_id(number, origin, "0" * 32)
    mark = Mark(id_, number, origin, "j", at, ("password", "username"))
    return {"Name": "c/db", "VersionId": id_, "VersionStages": [*labels, mark.label]}


ROW = [b"7", b"r", b"1767323045000006", b"password+username"]


@pytest.mark.parametrize(
    ("answer", "row", "expected"),
    [
        ({"SecretValues": [entry()]}, ROW, True),
        ({"SecretValues": [entry(8)]}, ROW, False),
        ({"SecretValues": [entry(origin=Origin.SET)]}, ROW, False),
        ({"SecretValues": [entry(at=MOMENT + datetime.timedelta(seconds=1))]}, ROW, False),
        ({"SecretValues": [entry(labels=["AWSPREVIOUS"])]}, ROW, False),
        ({"SecretValues": [{**entry(), "VersionId": "f" * 36}]}, ROW, False),
        ({"SecretValues": [{**entry(), "VersionStages": ["AWSCURRENT"]}]}, ROW, False),
        ({"SecretValues": [{**entry(), "VersionStages": None}]}, ROW, False),
        ({"SecretValues": [{**entry(), "Name": "c/other"}]}, ROW, False),
        ({"SecretValues": [entry()], "NextToken": "x"}, ROW, False),
        ({"SecretValues": []}, ROW, False),
        ({"SecretValues": [], "Errors": []}, [b"-"], True),
        ({"SecretValues": [entry()]}, [b"-"], False),
        ({"SecretValues": [entry(0, id_=NOTHING_ID)]}, [b"-"], True),
        ({}, [b"-"], False),
        ([], ROW, False),
    ],
)
def test_an_answer_of_aws(answer, row, expected):
    """The version that is current has to bear the label that Keyturn gave it."""
    assert expected == aws._are_at(answer, {"c/db": row})


@pytest.mark.parametrize(
    ("code", "row", "expected"),
    [
        ("ResourceNotFoundException", [b"-"], True),
        ("ResourceNotFoundException", ROW, False),
        ("AccessDeniedException", [b"-"], False),
    ],
)
def test_what_aws_could_not_give(code, row, expected):
    """One that was absent has to be absent; every other refusal is for the slow way."""
    answer = {"SecretValues": [], "Errors": [{"SecretId": "c/db", "ErrorCode": code}]}
    assert expected == aws._are_at(answer, {"c/db": row})


@pytest.fixture
def aws_home(monkeypatch, tmp_path):
    """A home without settings of AWS."""
    import os

    for name in os.environ:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path / ".aws"


CREDENTIALS = """\
# ours
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key=not/a/real+key==
[other]
aws_access_key_id = AKIAOTHER
aws_secret_access_key = not-real
aws_session_token = session
"""


def sdk_keys(profile):
    from botocore.session import Session

    found = Session(profile=profile).get_credentials()
    return found and tuple(
        (text or "").encode() for text in (found.access_key, found.secret_key, found.token)
    )


@pytest.mark.parametrize(
    ("environ", "profile"),
    [
        ({}, None),
        ({}, "other"),
        ({"AWS_PROFILE": "other"}, None),
        ({"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "x"}, None),
        ({"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "x"}, "other"),
        (
            {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "x", "AWS_SESSION_TOKEN": "t"},
            None,
        ),
    ],
)
def test_credentials_are_those_that_the_sdk_finds(environ, profile, aws_home, monkeypatch):
    """In the environment, or in a profile of the file."""
    (aws_home / "credentials").write_text(CREDENTIALS)
    (aws_home / "config").write_text("[default]\nregion = x\n[profile other]\noutput = json\n")
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    said = {} if profile is None else {b"profile": profile.encode()}
    assert sdk_keys(profile) == aws._keys(said)


@pytest.mark.parametrize(
    ("config", "credentials", "environ"),
    [
        ("[profile other]\nrole_arn = x\nsource_profile = default\n", CREDENTIALS, {}),
        ("[profile other]\nsso_session = x\n", CREDENTIALS, {}),
        ('[profile "other"]\ncredential_process = x\n', CREDENTIALS, {}),
        ("", CREDENTIALS.replace("aws_session_token", "role_arn"), {}),
        ("", CREDENTIALS.replace("aws_secret_access_key = not-real\n", ""), {}),
        ("", CREDENTIALS + "[other]\naws_access_key_id = twice\n", {}),
        ("", CREDENTIALS + "  more\n", {}),
        ("", CREDENTIALS.replace("[other]", "[ other ]"), {}),
        ("", "[DEFAULT]\naws_session_token = x\n" + CREDENTIALS, {}),
        ("", "", {}),
        ("", CREDENTIALS, {"AWS_WEB_IDENTITY_TOKEN_FILE": "/x"}),
        ("", CREDENTIALS, {"AWS_USE_FIPS_ENDPOINT": "true"}),
        ("", CREDENTIALS, {"HTTPS_PROXY": "http://x"}),
        ("", CREDENTIALS, {"https_proxy": "http://x"}),
    ],
)
def test_credentials_that_are_the_sdks_alone(config, credentials, environ, aws_home, monkeypatch):
    """A role, single sign-on, a program, a proxy, or anything that is not plain."""
    (aws_home / "credentials").write_text(credentials)
    (aws_home / "config").write_text(config)
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(Unreadable):
        aws._keys({b"profile": b"other"})


def test_a_body_names_what_is_asked():
    """At most twenty at once, as JSON."""

    class Server:
        bodies = []

        def send(self, method, path, headers, body):
            self.bodies.append(json.loads(body))
            raise Unreadable

    said = {b"authority": b"h", b"region": b"r"}
    with pytest.raises(Unreadable):
        aws._ask(Server(), said, (b"a", b"b", b""), ["c/x", "c/y"])
    assert [{"SecretIdList": ["c/x", "c/y"]}] == Server.bodies
