"""The example's plug-in, installed beside Keyturn, at the example's service."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from tests.worlds.acme import EXAMPLE, USER, AcmeWorld
from tests.worlds.base import Setup


def install(folder, *, source=EXAMPLE):
    """Put the package into *folder* with the metadata of its `pyproject.toml`."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    shutil.copytree(source / "src", folder, dirs_exist_ok=True)
    metadata = Path(folder) / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {where}\n" for name, where in points.items())
        for group, points in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))


class ExternalWorld(AcmeWorld):
    """The service, and the plug-in where this process and its children import it from."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="keyturn-plugin-")
        install(self.folder.name)
        self.path_before = os.environ.get("PYTHONPATH")
        parts = filter(None, (self.folder.name, self.path_before))
        os.environ["PYTHONPATH"] = os.pathsep.join(parts)
        sys.path.insert(0, self.folder.name)
        importlib.invalidate_caches()
        self.setup = Setup(
            kind="external",
            fields=("username", "password"),
            target={"plugin": "acme-users", "options": {"url": self.service.url, "user": USER}},
            first=self.service.first,
            admin=self.service.admin,
        )

    def close(self):
        sys.path.remove(self.folder.name)
        sys.modules.pop("acme_kind", None)
        if self.path_before is None:
            os.environ.pop("PYTHONPATH")
        else:
            os.environ["PYTHONPATH"] = self.path_before
        self.folder.cleanup()
        super().close()


def open_world():
    return ExternalWorld()
