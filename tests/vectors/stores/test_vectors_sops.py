"""Files that SOPS 3.11.0 once wrote are still read, value for value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keyturn.errors import Corrupt
from keyturn.stores._sops_dotenv import DotenvForm
from keyturn.stores._sops_json import JsonForm
from keyturn.stores._sops_keys import AgeKeys
from keyturn.stores._sops_text import SopsText
from keyturn.stores._sops_yaml import YamlForm
from keyturn.testing import FakeClock, SeededEntropy

VECTOR = json.loads(Path(__file__).with_name("sops-1.json").read_text(encoding="utf-8"))
FORMS = {"env": DotenvForm, "json": JsonForm, "yaml": YamlForm}


@pytest.mark.parametrize("form", FORMS)
def test_sops_1_is_read(tmp_path, form):
    """Of each form: sealed values of every type, nested ones, and what lies in clear."""
    identity = tmp_path / "identity.txt"
    identity.write_text(VECTOR["identity"])
    keys = AgeKeys([], [identity], entropy=SeededEntropy())
    text = SopsText(FORMS[form](), keys=keys, clock=FakeClock(), entropy=SeededEntropy())
    data = VECTOR["files"][form].encode()
    live = text.read(data, file=Path(form))
    assert {key: value.decode() for key, value in live.items()} == VECTOR["live"][form]
    with pytest.raises(Corrupt):
        text.read(data.replace(b"2026-", b"2025-"), file=Path(form))
