"""`keyturn sync` killed on the way: the same again does what is left, and nothing is lost."""

from __future__ import annotations

import re
import signal

import pytest

from keyturn.core.ids import FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.value import SecretValue
from keyturn.testing.moto import MotoServer
from keyturn.testing.openbao import OpenBaoServer
from tests.cli.projects import DEVELOPMENT, empty, start
from tests.integration.aws_front import AwsFront

pytestmark = pytest.mark.crash

COUNT = 300
NOWHERE = "http://127.0.0.1:1"
AWS_LOGIN = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "x" * 40}
MANIFEST = """\
[project]
name = "clipper"
[environments.development]
store = "local"
[stores.local]
kind = "embedded"
[stores.file]
kind = "dotenv"
path = "team.env"
[stores.team]
kind = "vault"
address = "ADDRESS"
layout = "LAYOUT"
[stores.aws]
kind = "aws"
region = "eu-central-1"
endpoint_url = "AWS_ADDRESS"
[secrets.first]
kind = "generated"
variable = "FIRST"
"""


@pytest.fixture(scope="module")
def server():
    with OpenBaoServer() as running:
        yield running


@pytest.fixture(scope="module")
def front():
    with MotoServer() as moto:
        made = AwsFront(moto.address)
        yield made
        made.stop()


def project_in(folder, server, *, layout="environment", front=None):
    manifest = MANIFEST.replace("AWS_ADDRESS", front.address if front else NOWHERE)
    manifest = manifest.replace("ADDRESS", server.address if server else NOWHERE)
    made = empty(folder, manifest.replace("LAYOUT", layout))
    if server:
        made.environment["VAULT_TOKEN"] = server.token.reveal_text()
    if front:
        made.environment.update(AWS_LOGIN)
    start(made)
    return made


def fill(project, count, *, several=True):
    """
    Give *project* secrets of one to three versions, some of them rolled back or destroyed.

    Args:
        several: Some of them have two fields.
    """
    session = project.session()
    store = session.embedded
    with session.database.transaction():
        for index in range(count):
            ref = SecretRef(DEVELOPMENT, SecretName(f"name-{index:04}"))
            for number in range(1, 2 + index % 3):
                values = {FieldName("value"): SecretValue(f"test-{index}-{number}".encode())}
                if several and index % 10 == 0:
                    values[FieldName("more")] = SecretValue(b"\xff\x00")
                store.put_pending(
                    ref,
                    values,
                    origin=Origin.GENERATED if number == 1 else Origin.ROTATED,
                    token=Token(f"test {number}"),
                )
                current = store.state(ref).current
                store.promote(ref, number, expected_current=current)
            if index % 6 == 2:
                store.promote(ref, 2, expected_current=3)
                store.destroy(ref, 1)
    session.close()


def killed(project, *words, at):
    done = project(*words, environ={"KEYTURN_FAILPOINT": at})
    assert done.code == -signal.SIGKILL, done.text


def synced(project, *words):
    done = project("sync", *words)
    assert done.code == 0, done.text
    return done


def test_killed_twice_each_way_everything_arrives(server, tmp_path, monkeypatch):
    """Three hundred secrets to OpenBao, and from there to another project: all versions equal."""
    first = project_in(tmp_path / "first", server)
    second = project_in(tmp_path / "second", server)
    fill(first, COUNT)
    monkeypatch.setenv("VAULT_TOKEN", server.token.reveal_text())
    before = first.everything("local")
    assert (len(before), sum(len(each.versions) for each in before.values())) == (300, 600)
    killed(first, "sync", "local", "team", at="store.vault.written:150")
    killed(first, "sync", "local", "team", at="store.outside.carried:2")
    synced(first, "local", "team")
    assert first.everything("team") == before
    assert first.everything("local") == before
    killed(second, "sync", "team", "local", at="database.committed:5")
    killed(second, "sync", "team", "local", at="database.commit:4")
    synced(second, "team", "local")
    assert second.everything("local") == before
    assert first("diff", "local", "team").code == 0
    assert second("doctor").code == 0
    for project in (first, second):
        told = project.actions(action="secret.version.sync")
        begun = {each["seq"] for each in told if each["outcome"] == "begun"}
        assert len(begun) == 3
        assert begun <= {each.get("settles") for each in told}


def points_of(project, tmp_path, *words):
    """Return how many failpoints *words* reaches, from a trace of it."""
    trace = tmp_path / "trace"
    synced_by_trace = project(*words, environ={"KEYTURN_FAILPOINT": f"trace={trace}"})
    assert synced_by_trace.code == 0, synced_by_trace.text
    return len(trace.read_text().splitlines())


def test_killed_anywhere_on_the_way_to_a_file(tmp_path):
    """At each failpoint in turn, one after another: it goes on, and in the end all is there."""
    model = project_in(tmp_path / "model", None)
    fill(model, 6)
    count = points_of(model, tmp_path, "sync", "local", "file")
    assert count > 10
    for at in range(1, count + 1):
        project = project_in(tmp_path / f"{at}", None)
        fill(project, 6)
        before = project.everything("local")
        killed(project, "sync", "local", "file", at=f"*:{at}")
        session = project.session()
        assert session.store.watched_named("file").drifts(DEVELOPMENT) == {}
        session.close()
        synced(project, "local", "file")
        assert project.everything("file") == before


def test_killed_anywhere_on_the_way_to_a_path_each(server, tmp_path, monkeypatch):
    """The same in OpenBao with a path for each secret, killed again and again in one run."""
    monkeypatch.setenv("VAULT_TOKEN", server.token.reveal_text())
    project = project_in(tmp_path / "first", server, layout="secret")
    project.manifest.write_text(project.manifest.read_text().replace('"clipper"', '"each"'))
    fill(project, 12)
    before = project.everything("local")
    deaths = 0
    while project(
        "sync", "local", "team", environ={"KEYTURN_FAILPOINT": f"store.vault.written:{deaths + 3}"}
    ).code:
        deaths += 1
        assert deaths < 60
    assert deaths > 5
    assert project.everything("team") == before


@pytest.mark.adapter("aws", real=False)
def test_killed_on_the_way_through_aws_everything_arrives(server, front, tmp_path, monkeypatch):
    """From OpenBao to AWS and home, killed twice: values, numbers, origins, times and stages."""
    for name, value in {**AWS_LOGIN, "VAULT_TOKEN": server.token.reveal_text()}.items():
        monkeypatch.setenv(name, value)
    first = project_in(tmp_path / "first", server, front=front)
    second = project_in(tmp_path / "second", server, front=front)
    for project in (first, second):
        text = project.manifest.read_text().replace('"clipper"', '"through"')
        project.manifest.write_text(text)
    fill(first, 24)
    before = first.everything("local")
    synced(first, "local", "team")
    killed(first, "sync", "team", "aws", at="store.aws.put.called:20")
    killed(first, "sync", "team", "aws", at="store.aws.stage.call:8")
    synced(first, "team", "aws")
    assert first("diff", "local", "aws").code == 0
    synced(second, "aws", "local")
    after = second.everything("local")
    assert after.keys() == before.keys()
    for name, history in before.items():
        assert after[name].state == history.state
        for (was, values), (now, there) in zip(history.versions, after[name].versions, strict=True):
            assert values == there
            # Of a destroyed version AWS never got anything but its number.
            assert now == was or (was.destroyed and now.destroyed)


@pytest.mark.adapter("aws", real=False)
def test_store_of_few_versions_keeps_the_newest(front, tmp_path, monkeypatch):
    """Ten of thirteen, with those in use; the numbers go on, and it is no difference to mend."""
    for name, value in AWS_LOGIN.items():
        monkeypatch.setenv(name, value)
    project = project_in(tmp_path / "first", None, front=front)
    text = project.manifest.read_text().replace('"clipper"', '"few"')
    project.manifest.write_text(text)
    for number in range(13):
        project.put("first", b"test-value-of-thirteen-%d" % number)
    project("rollback", "first", "--to", "1")
    synced(project, "local", "aws")
    (held,) = project.everything("aws").values()
    assert (held.state.current, held.state.previous, held.state.next_number) == (1, 13, 14)
    alive = [version.number for version, values in held.versions if values is not None]
    assert alive == [1, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert b"1 same" in synced(project, "local", "aws").err


def use(project, store):
    """Make the environment use *store*."""
    text = project.manifest.read_text()
    project.manifest.write_text(re.sub(r'(?m)^store = "\w+"', f'store = "{store}"', text))


@pytest.mark.parametrize("target", ["file", "local"])
def test_no_bundle_outlives_a_value_that_was_moved_in(tmp_path, target):
    """Killed whenever it wrote: `run` gives what is current, not what was sealed before."""
    source = "local" if target == "file" else "file"
    project = project_in(tmp_path, None)
    use(project, target)
    project.put("first", b"first-test-value-aaaaaaaaaaaa")
    synced(project, target, source)
    use(project, source)
    project.put("first", b"second-test-value-bbbbbbbbbbb")
    use(project, target)
    project.refresh()
    shown = ("run", "--", "sh", "-c", "printf %s $FIRST")
    assert project(*shown).out == b"first-test-value-aaaaaaaaaaaa"
    point = "store.outside.carried" if target == "file" else "database.committed"
    given = []
    for time in range(1, 12):
        if not project(
            "sync", source, target, environ={"KEYTURN_FAILPOINT": f"{point}:{time}"}
        ).code:
            break
        (history,) = project.everything(target).values()
        (now,) = history.values(history.state.current).values()
        given.append(project(*shown).out)
        assert given[-1] == now.reveal()
    assert b"second-test-value-bbbbbbbbbbb" in given
    synced(project, source, target)
