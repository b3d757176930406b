"""Stores that are files pass the one contract, and leave what is not theirs alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyturn.core.ids import EnvironmentName, FieldName, SecretName, StoreName, Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, Corrupt, Rejected, Unavailable, UsageError
from keyturn.manifest import LiveKeys, StoreKind, StoreSettings
from keyturn.stores import dotenv
from keyturn.stores._context import StoreContext
from keyturn.testing import FakeClock, SeededEntropy, StoreContract
from keyturn.testing.store_contract import activate, current, put

DB = SecretRef(EnvironmentName("production"), SecretName("db"))


def context(folder: Path, *, kind=StoreKind.DOTENV, keys=LiveKeys.VARIABLES, **options):
    settings = StoreSettings(StoreName("files"), kind, options, keys=keys)
    return StoreContext(
        settings,
        project="clipper",
        folder=folder,
        state=folder / ".keyturn",
        clock=FakeClock(),
        entropy=SeededEntropy(),
        variable=lambda ref, field: None,
        facts=lambda ref: {},
        ask=lambda prompt: SecretValue(b""),
        keep=lambda environment: None,
    )


@pytest.mark.store("dotenv")
class TestDotenv(StoreContract):
    """A `.env` file."""

    @pytest.fixture
    def store(self, tmp_path):
        return dotenv.build(context(tmp_path))

    @pytest.fixture
    def reopen(self, tmp_path):
        return lambda: dotenv.build(context(tmp_path))


@pytest.fixture
def file(tmp_path):
    return tmp_path / ".env.production"


@pytest.fixture
def store(tmp_path):
    return dotenv.build(context(tmp_path))


class TestTheFile:
    """What a person finds in it."""

    def test_line_takes_the_place_of_the_old_one(self, file, store):
        """Comments, blank lines, order and the lines of others stay."""
        file.write_text("# head\nPORT=80  # web\n\n# the login\nDB=old\nexport LAST=1")
        store.accept(DB, [FieldName("value")])
        activate(store, b"new value")
        assert (
            file.read_text()
            == "# head\nPORT=80  # web\n\n# the login\nDB='new value'\nexport LAST=1"
        )
        assert store.read(DB, Stage.PREVIOUS).values[FieldName("value")].reveal() == b"old"

    def test_new_line_comes_last(self, file, store):
        """Also where the last line has no end."""
        file.write_text("PORT=80")
        activate(store, b"x")
        assert file.read_text() == "PORT=80\nDB=x\n"

    def test_every_line_of_a_value_is_replaced(self, file, store):
        """A value over several lines, and one that is set twice."""
        file.write_text('DB="a"\nDB="one\ntwo=2\n"\nPORT=80\n')
        store.accept(DB, [FieldName("value")])
        assert current(store) == b"one\ntwo=2\n"
        activate(store, b"x")
        assert file.read_text() == "DB=x\nPORT=80\n"

    def test_bytes_are_base64_under_a_comment(self, file, store):
        """And the comment goes with them."""
        activate(store, b"\xff\x00")
        assert file.read_text() == "# keyturn: base64\nDB=/wA=\n"
        activate(store, b"text")
        assert file.read_text() == "DB=text\n"

    def test_false_base64_is_refused(self, file, store):
        """A hand-made mistake is told, not guessed at."""
        activate(store, b"\xff\x00")
        file.write_text("# keyturn: base64\nDB=?\n")
        with pytest.raises(Corrupt):
            store.state(DB)

    def test_file_is_private(self, file, store):
        """It and what is beside it; one that others could read is made less so."""
        activate(store, b"x")
        assert file.stat().st_mode & 0o777 == 0o600
        (aside,) = (file.parent / ".keyturn/stores").glob("*.json")
        assert aside.stat().st_mode & 0o777 == 0o600
        file.chmod(0o666)
        activate(store, b"y")
        assert file.stat().st_mode & 0o777 == 0o640

    def test_hand_edit_is_drift(self, file, store):
        """What somebody wrote is not written over."""
        activate(store, b"x")
        number = put(store, b"y")
        file.write_text("DB=hand\n")
        with pytest.raises(Conflict) as refusal:
            store.promote(DB, number, expected_current=1)
        assert refusal.value.code == "store.drift"
        assert file.read_text() == "DB=hand\n"

    def test_variable_of_the_manifest_is_used(self, tmp_path, file):
        """Fields are called what applications call them."""
        made = context(tmp_path)
        object.__setattr__(made, "variable", lambda ref, field: f"CLIP_{field.upper()}")
        store = dotenv.build(made)
        version = store.put_pending(
            DB,
            {FieldName("password"): SecretValue(b"p")},
            origin=Origin.SET,
            token=Token("t"),
        )
        store.promote(DB, version.number, expected_current=None)
        assert file.read_text() == "CLIP_PASSWORD=p\n"


class TestFaults:
    """Files that are not as they should be."""

    @pytest.mark.parametrize("path", ["../x", "/tmp/x", "a/../../x"])
    def test_path_out_of_the_project_is_refused(self, tmp_path, path):
        """A manifest cannot make Keyturn write elsewhere."""
        store = dotenv.build(context(tmp_path, path=path))
        with pytest.raises(UsageError):
            store.state(DB)

    def test_damaged_aside_is_refused(self, file, store):
        """Nothing is written over it."""
        activate(store, b"x")
        (aside,) = (file.parent / ".keyturn/stores").glob("*.json")
        for text in ("", "{}", "[]", '{"format": 2}', '{"format": 1, "ledger": "?", "kept": {}}'):
            aside.write_text(text)
            with pytest.raises(Corrupt):
                put(store, b"y", token="t")
            assert aside.read_text() == text

    def test_folder_in_its_place_is_refused(self, file, store):
        """With the file's name."""
        file.mkdir()
        with pytest.raises((Unavailable, Rejected)) as refusal:
            activate(store, b"x")
        assert str(file) in refusal.value.message
