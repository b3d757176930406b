"""`run` on AWS when the sealed bundle's short life is over: one request for each twenty secrets."""

from __future__ import annotations

import shutil

import pytest

from keyturn._fastread import aws
from keyturn._fastread.wire import Server, Unreadable
from keyturn.cli.exits import Exit
from keyturn.stores._recheck import server_rows
from keyturn.testing.moto import MotoServer
from tests.cli import projects
from tests.integration.aws_front import AwsFront, Refusal
from tests.worlds.imports import imported
from tests.worlds.rechecking import expire

MANIFEST = """\
[project]
name = "clipper"
[environments.development]
store = "team"
[stores.team]
kind = "aws"
region = "eu-central-1"
endpoint_url = "ADDRESS"
cache = "10m"
[secrets.late]
kind = "generated"
variable = "LATE_TOKEN"
required = false
""" + "".join(f'[secrets.s{n}]\nkind = "generated"\nvariable = "SECRET_{n}"\n' for n in range(22))
BATCH = ["BatchGetSecretValue"] * 2
SHOW = ("run", "--", "sh", "-c", "printf %s $SECRET_21")


@pytest.fixture(scope="module")
def moto():
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def front(moto):
    made = AwsFront(moto.address)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def template(tmp_path_factory, front):
    place = tmp_path_factory.mktemp("recheck")
    made = projects.empty(place, MANIFEST.replace("ADDRESS", front.address))
    made.environment.update(keys(place))
    for words in (["init", "-qq"], ["generate", "-qq", *(f"s{n}" for n in range(22))]):
        done = made(*words)
        assert done.code == 0, done.text
    return made


def keys(place):
    return {
        "HOME": str(place),
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "not-a-real-key",
    }


@pytest.fixture
def project(tmp_path, template, front):
    """The project, whose bundle's life has just ended."""
    front.calm()
    found = projects.Project(tmp_path / "project", tmp_path / "keys", keys(tmp_path))
    shutil.copytree(template.folder, found.folder)
    shutil.copytree(template.key_home, found.key_home)
    expire(found)
    front.calm()
    return found


@pytest.fixture
def sdk(moto):
    return moto.client("secretsmanager")


def current(sdk, name="clipper/development/s21"):
    return sdk.get_secret_value(SecretId=name, VersionStage="AWSCURRENT")["SecretString"].encode()


def test_what_has_not_changed_is_served(project, front, sdk):
    """After one request for each twenty, and without the SDK."""
    shown = project(*SHOW)
    assert (0, current(sdk)) == (shown.code, shown.out)
    assert BATCH == front.actions()
    front.calm()
    assert project("run", "--", "true").code == 0
    assert [] == front.actions()


def test_no_sdk_is_imported(project):
    """Neither that, nor `http`, nor anything of the store's."""
    found = imported(project, "run", "--", "true")
    ours = {name for name in found if name.startswith("keyturn")}
    asking = {"keyturn._fastread", "keyturn._fastread.wire", "keyturn._fastread.aws"}
    assert {"keyturn", "keyturn.fast", "keyturn._fastaudit"} | asking == ours
    assert not found & {"botocore", "boto3", "http", "json", "re", "socket", "hashlib"}


def test_what_others_changed_is_given(project, front, sdk):
    """As soon as it is asked for: a version without Keyturn's label is not what was sealed."""
    name = "clipper/development/s21"
    version = sdk.describe_secret(SecretId=name)["VersionIdsToStages"]
    holder = next(i for i, labels in version.items() if "AWSCURRENT" in labels)
    made = sdk.put_secret_value(
        SecretId=name, SecretString="by-hand-aaaaaaaaaaaaaaaa", VersionStages=["hand"]
    )["VersionId"]
    sdk.update_secret_version_stage(
        SecretId=name, VersionStage="AWSCURRENT", MoveToVersionId=made, RemoveFromVersionId=holder
    )
    try:
        assert b"by-hand-aaaaaaaaaaaaaaaa" == project(*SHOW).out
        assert len(front.actions()) > len(BATCH)
    finally:
        sdk.update_secret_version_stage(
            SecretId=name,
            VersionStage="AWSCURRENT",
            MoveToVersionId=holder,
            RemoveFromVersionId=made,
        )


def test_refused_credentials_serve_nothing(project, front):
    """Though all is sealed here."""
    front.refuse["BatchGetSecretValue"] = Refusal("UnrecognizedClientException")
    refused = project("run", "--", "true")
    assert refused.code not in (0, Exit.BUG)
    assert "credentials" in refused.text


def test_keys_of_a_profile(project, front, tmp_path):
    """Of the credentials file, where the environment has none."""
    found = project.environment
    text = (
        "[default]\n"
        f"aws_access_key_id = {found.pop('AWS_ACCESS_KEY_ID')}\n"
        f"aws_secret_access_key = {found.pop('AWS_SECRET_ACCESS_KEY')}\n"
    )
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(text)
    assert "botocore" not in imported(project, "run", "--", "true")
    assert BATCH == front.actions()


def test_a_role_takes_the_slow_way(project, front, tmp_path):
    """Which knows how to come by its keys, or says that it cannot."""
    del project.environment["AWS_ACCESS_KEY_ID"]
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\ncredential_process = /nonexistent\n")
    refused = project("run", "--", "true")
    assert refused.code not in (0, Exit.BUG)
    assert [] == front.actions()


def test_the_signature_is_accepted():
    """By a server that checks it; with another key it is not."""
    with MotoServer() as server:
        key, secret = server.make_user("run", actions={"secretsmanager:*": "Allow"})
        server.client("secretsmanager").create_secret(Name="c/x", SecretString="value")
        server.check_keys()
        said = {row[0].encode(): row[1].encode() for row in server_rows(server.address, None)}
        said[b"region"] = b"eu-central-1"

        def ask(secret):
            made = Server(said)
            try:
                return aws._ask(made, said, (key.encode(), secret, b""), ["c/x", "c/none"])
            finally:
                made.close()

        answer = ask(secret.reveal())
        assert ["c/x"] == [entry["Name"] for entry in answer["SecretValues"]]
        with pytest.raises(Unreadable):
            ask(b"another-key")
