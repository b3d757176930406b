"""SOPS files of every form pass the one contract."""

from __future__ import annotations

import pytest

from keyturn.testing import StoreContract
from tests.worlds.sops import new_person, open_store

pytestmark = pytest.mark.store("sops")


class _Sops(StoreContract):
    ending = ""

    @pytest.fixture
    def reopen(self, tmp_path):
        options = {
            "path": f"secrets/{{environment}}{self.ending}",
            "recipients": [new_person(tmp_path / "me.txt")],
            "identity_file": "me.txt",
        }
        return lambda: open_store(tmp_path, **options)

    @pytest.fixture
    def store(self, reopen):
        return reopen()


class TestSopsDotenv(_Sops):
    """A file of lines."""

    ending = ".env"


class TestSopsYaml(_Sops):
    """A file in YAML."""

    ending = ".yaml"


class TestSopsJson(_Sops):
    """A file in JSON."""

    ending = ".json"
