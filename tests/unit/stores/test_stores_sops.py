"""SOPS files that are not as they should be, and who may open them; without `sops` itself."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from keyturn.core.ids import EnvironmentName, FieldName, SecretName
from keyturn.core.model import SecretRef
from keyturn.core.value import SecretValue
from keyturn.crypto import new_identity, recipient
from keyturn.crypto.agefile import seal_text
from keyturn.errors import Corrupt, Rejected, Sealed, Unavailable, UsageError
from keyturn.manifest import LiveKeys
from keyturn.stores import sops
from keyturn.stores._sops_keys import identity_files
from keyturn.stores._sops_metadata import flat, unflat
from keyturn.stores._sops_rules import Rules
from keyturn.stores._sops_values import clear_bytes
from keyturn.testing.store_contract import activate, current, put
from tests.worlds.sops import new_person, open_store

DB = SecretRef(EnvironmentName("production"), SecretName("db"))
API = SecretRef(EnvironmentName("production"), SecretName("api"))
FORMS = (".env", ".yaml", ".json")


class Scene:
    """A project's folder with one person's identity in it."""

    def __init__(self, folder, form):
        self.folder, self.form = folder, form
        self.file = folder / f"secrets/production{form}"
        self.aside = folder / "secrets/production.keyturn.age"
        self.me = new_person(folder / "me.txt")
        self.options = {
            "path": f"secrets/{{environment}}{form}",
            "recipients": [self.me],
            "identity_file": "me.txt",
        }

    def store(self, **changes):
        options = {k: v for k, v in {**self.options, **changes}.items() if v is not None}
        return open_store(self.folder, **options)

    def replace(self, old, new, *, count=1):
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new, count))


@pytest.fixture(params=FORMS)
def scene(tmp_path, request):
    return Scene(tmp_path, request.param)


@pytest.fixture
def env(tmp_path):
    return Scene(tmp_path, ".env")


@pytest.fixture
def yaml(tmp_path):
    return Scene(tmp_path, ".yaml")


@pytest.fixture
def js(tmp_path):
    return Scene(tmp_path, ".json")


class TestSettings:
    """What the manifest says."""

    @pytest.mark.parametrize("path", ["a.txt", "a", ".env.production", "a.yaml.bak"])
    def test_unknown_ending_is_refused(self, env, path):
        """The ending says the form."""
        with pytest.raises(UsageError) as refusal:
            env.store(path=path)
        assert refusal.value.code == "store.path"

    @pytest.mark.parametrize("bad", ["age1", "ssh-ed25519", "AGE-SECRET-KEY-1X"])
    def test_faulty_recipient_is_refused(self, env, bad):
        """Before anything is sealed."""
        with pytest.raises(UsageError) as refusal:
            env.store(recipients=[env.me, bad])
        assert refusal.value.code == "store.recipients"

    def test_path_out_of_the_project_is_refused(self, env):
        """A manifest cannot make Keyturn write elsewhere."""
        with pytest.raises(UsageError):
            env.store(path="../{environment}.env").state(DB)

    def test_files_lie_beside_each_other(self, scene):
        """Both are the team's, to be committed together; neither holds a value in clear."""
        activate(scene.store(), b"a fake value")
        assert b"a fake value" not in scene.file.read_bytes() + scene.aside.read_bytes()
        assert scene.aside.read_bytes().startswith(b"-----BEGIN AGE ENCRYPTED FILE-----\n")


class TestIdentities:
    """Where the key that opens it comes from."""

    def test_places_are_those_of_sops(self):
        """The manifest's alone; or the variable's, and the usual one."""
        home = {"HOME": "/home/ann"}
        usual = Path("/home/ann/.config/sops/age/keys.txt")
        assert identity_files(None, home) == [usual]
        assert identity_files(None, {**home, "SOPS_AGE_KEY_FILE": "/k"}) == [Path("/k"), usual]
        assert identity_files(None, {}) == []
        moved = identity_files(None, {**home, "XDG_CONFIG_HOME": "/x"})
        assert moved == [Path("/x/sops/age/keys.txt")]
        assert identity_files(Path("/m"), {**home, "SOPS_AGE_KEY_FILE": "/k"}) == [Path("/m")]

    def test_variable_and_usual_place_are_used(self, env, monkeypatch):
        """Where the manifest names none."""
        activate(env.store(), b"x")
        elsewhere = env.folder / "elsewhere.txt"
        (env.folder / "me.txt").rename(elsewhere)
        with pytest.raises(Sealed):
            current(env.store(identity_file=None))
        monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(elsewhere))
        assert current(env.store(identity_file=None)) == b"x"
        monkeypatch.delenv("SOPS_AGE_KEY_FILE")
        monkeypatch.setenv("HOME", str(env.folder))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        usual = env.folder / ".config/sops/age/keys.txt"
        usual.parent.mkdir(parents=True)
        elsewhere.rename(usual)
        assert current(env.store(identity_file=None)) == b"x"

    def test_none_is_sealed(self, scene):
        """With the way to one; also where the file has no identity in it."""
        activate(scene.store(), b"x")
        for text in (None, "# nothing\n"):
            (scene.folder / "me.txt").unlink(missing_ok=True)
            if text is not None:
                (scene.folder / "me.txt").write_text(text)
            with pytest.raises(Sealed) as refusal:
                scene.store().state(DB)
            assert "me.txt" in refusal.value.message
            assert "age-keygen" in refusal.value.hint

    def test_unreadable_one_is_told(self, env):
        """As such, and not as absent."""
        activate(env.store(), b"x")
        (env.folder / "me.txt").unlink()
        (env.folder / "me.txt").mkdir()
        with pytest.raises(Unavailable):
            env.store().state(DB)


class TestDamage:
    """Files that are not what SOPS wrote."""

    @pytest.mark.parametrize("text", ["", "\n", "DB=x\n", "DB: x\n", '{"DB": "x"}', "{", "\udcff"])
    def test_file_in_clear_is_refused(self, scene, text):
        """Nothing is read from it, and nothing is written over it."""
        scene.file.parent.mkdir()
        scene.file.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(Corrupt):
            scene.store().state(DB)
        assert scene.file.read_bytes() == text.encode("utf-8", "surrogateescape")

    def test_merge_conflict_is_told(self, scene):
        """In either file."""
        activate(scene.store(), b"x")
        for file in (scene.file, scene.aside):
            whole = file.read_text()
            file.write_text(f"<<<<<<< HEAD\n{whole}=======\n{whole}>>>>>>> theirs\n")
            with pytest.raises(Corrupt) as refusal:
                scene.store().state(DB)
            assert refusal.value.code == "store.merge"
            assert str(file) in refusal.value.message
            file.write_text(whole)
        assert current(scene.store()) == b"x"

    def test_damaged_aside_is_refused(self, scene):
        """Changed, cut, or none of age's."""
        store = scene.store()
        activate(store, b"x")
        whole = scene.aside.read_bytes()
        for data in (b"", b"x", b"\xff", whole[:-80], whole[:100] + whole[164:]):
            scene.aside.write_bytes(data)
            with pytest.raises(Corrupt) as refusal:
                store.state(DB)
            assert refusal.value.message
            assert scene.aside.read_bytes() == data

    def test_value_in_clear_is_refused(self, scene):
        """Somebody wrote one by hand; the message does not repeat it."""
        activate(scene.store(), b"x")
        sealed = re.search(r"ENC\[[^\]]+\]", scene.file.read_text())[0]
        scene.replace(sealed, "hunter2")
        with pytest.raises(Corrupt, match="lies in clear") as refusal:
            scene.store().state(DB)
        assert "hunter2" not in f"{refusal.value} {refusal.value.hint}"

    def test_appended_value_is_refused(self, scene):
        """What is sealed is named one by one, and all of it is in the MAC."""
        activate(scene.store(), b"x")
        text = scene.file.read_text()
        sealed = re.search(r"ENC\[[^\]]+\]", text)[0]
        for key in ("DB2", "NOTE_unencrypted"):
            added = {".env": f"{key}={sealed}\n", ".yaml": f"{key}: {sealed}\n"}
            lead = added.get(scene.form)
            changed = lead + text if lead else text.replace("{", f'{{"{key}": "{sealed}",', 1)
            scene.file.write_text(changed)
            with pytest.raises(Corrupt):
                scene.store().state(DB)

    def test_two_rules_exclude_each_other(self, env):
        """As they do for SOPS."""
        activate(env.store(), b"x")
        env.replace("sops_version", "sops_encrypted_suffix=B\nsops_version")
        with pytest.raises(Corrupt, match="both"):
            env.store().state(DB)

    @pytest.mark.parametrize(
        ("rule", "argument"),
        [
            ("encrypted_comment_regex", "secret"),
            ("encrypted_regex", "[[:alpha:]]"),
            ("encrypted_regex", "(a+)+"),
            ("encrypted_regex", "(?P<x>a)"),
            ("encrypted_regex", "\\pL"),
            ("encrypted_regex", "("),
            ("unencrypted_regex", "a" * 1001),
        ],
    )
    def test_rules_that_cannot_be_followed_are_refused(self, rule, argument):
        """What Go's patterns mean and Python's do not is never guessed at."""
        with pytest.raises(Rejected, match=rule):
            Rules.of({rule: argument}, file="x")

    def test_no_age_recipient(self, env):
        """A file for somebody else's keys alone names what they are."""
        activate(env.store(), b"x")
        text = re.sub(r"sops_age.*\n", "", env.file.read_text())
        env.file.write_text(text + "sops_kms__list_0__map_arn=arn\n")
        with pytest.raises(Sealed, match="AWS KMS"):
            env.store().state(DB)

    def test_damaged_metadata(self, env):
        """A gap, a text in place of a list, an entry without its key."""
        activate(env.store(), b"x")
        whole = env.file.read_text()
        for old, new in (
            ("list_0", "list_7"),
            ("sops_age__list_0__map_enc", "sops_age"),
            ("__map_enc", "__map_else"),
            ("__list_0", "__list_x"),
        ):
            env.file.write_text(whole.replace(old, new))
            with pytest.raises(Corrupt):
                env.store().state(DB)

    def test_key_that_is_no_key(self, env):
        """Sealed for us, and yet nothing that AES-256 takes; or damaged."""
        activate(env.store(), b"x")
        short = seal_text(SecretValue(b"short"), [env.me]).replace("\n", "\\n")
        whole = env.file.read_text()
        for text in (short, short[:80] + short[90:]):
            line = f"sops_age__list_0__map_enc={text}"
            env.file.write_text(re.sub("sops_age__list_0__map_enc=.*", lambda _: line, whole))
            with pytest.raises(Corrupt, match="the key of"):
                env.store().state(DB)

    def test_file_without_its_time_is_refused(self, scene):
        """Nothing could tell what the MAC is bound to."""
        activate(scene.store(), b"x")
        scene.replace("lastmodified", "lastmodifed")
        with pytest.raises(Corrupt, match="has no MAC"):
            scene.store().state(DB)

    def test_empty_lists_of_older_releases(self, scene):
        """They wrote every kind of key that they knew, without an entry."""
        store = scene.store()
        activate(store, b"x")
        if scene.form == ".yaml":
            scene.replace(
                "    version", "    kms: []\n    pgp: []\n    hc_vault: null\n    version"
            )
        if scene.form == ".json":
            scene.replace('"version"', '"kms": null, "pgp": [], "version"')
        activate(scene.store(recipients=[scene.me, recipient(new_identity())]), b"y")
        activate(scene.store(), b"z")
        assert current(scene.store()) == b"z"

    def test_home_of_nobody(self, env):
        """A path that the shell could not expand either."""
        with pytest.raises(UsageError) as refusal:
            env.store(identity_file="~nobody-of-that-name/keys.txt")
        assert refusal.value.code == "store.path"

    def test_yaml_needs_its_package(self, yaml, monkeypatch):
        """Which is told, with what to install."""
        activate(yaml.store(), b"x")
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(UsageError, match="pyyaml") as refusal:
            yaml.store().state(DB)
        assert refusal.value.code == "store.driver"


class TestOthersKeys:
    """PGP and key services beside ours."""

    ENTRY = {
        ".env": (
            "sops_version",
            "sops_pgp__list_0__map_enc=p\\nq\nsops_pgp__list_0__map_fp=AB\nsops_version",
        ),
        ".yaml": (
            "    version",
            "    pgp:\n        - fp: AB\n          enc: |\n            p\n            q\n    version",
        ),
        ".json": ('"version"', '"pgp": [{"fp": "AB", "enc": "p\\nq"}], "version"'),
    }

    def test_they_are_kept(self, scene):
        """When values change and when somebody joins."""
        store = scene.store()
        activate(store, b"x")
        scene.replace(*self.ENTRY[scene.form])
        activate(store, b"y")
        bob = recipient(new_identity())
        joined = scene.store(recipients=[scene.me, bob])
        activate(joined, b"z")
        metadata = sops._form(scene.form).parse(scene.file.read_bytes(), file="x").metadata
        assert [entry["recipient"] for entry in metadata["age"]] == [scene.me, bob]
        (kept,) = metadata["pgp"]
        assert (kept["fp"], kept["enc"].strip()) == ("AB", "p\nq")
        assert current(joined) == b"z"

    def test_nobody_leaves_with_them(self, scene):
        """They could not be given the new key, so nothing is written."""
        bob = recipient(new_identity())
        activate(scene.store(recipients=[scene.me, bob]), b"x")
        scene.replace(*self.ENTRY[scene.form])
        before = scene.file.read_bytes()
        with pytest.raises(Rejected, match="PGP") as refusal:
            activate(scene.store(), b"y")
        assert refusal.value.code == "store.recipients"
        assert bob in refusal.value.hint
        assert scene.file.read_bytes() == before


class TestEditing:
    """What is written, and what is not."""

    @pytest.mark.parametrize("name", ["sops", "sops-mac"])
    def test_keys_of_sops_are_not_taken(self, scene, name):
        """A secret cannot pass for the metadata: `sops`, or `sops_...` where that is flat."""
        ref = SecretRef(DB.environment, SecretName(name))
        store = scene.store(keys=LiveKeys.NAMES)
        activate(store, b"x")
        if (name == "sops") == (scene.form == ".env"):
            activate(store, b"y", ref=ref)
            assert current(store, ref) == b"y"
        else:
            with pytest.raises(Rejected) as refusal:
                activate(store, b"y", ref=ref)
            assert refusal.value.code == "store.form"
        assert current(store) == b"x"

    def test_mapping_is_not_written_over(self, yaml):
        """What is others' stays, even where the name is ours."""
        activate(yaml.store(), b"x")
        yaml.file.write_text("API: {}\n" + yaml.file.read_text())
        with pytest.raises(Rejected) as refusal:
            activate(yaml.store(), b"y", ref=API)
        assert refusal.value.code == "store.form"

    @pytest.mark.parametrize("name", ["no", "on", "y", "null", "true"])
    def test_words_of_yaml_are_quoted(self, yaml, name):
        """A key that others would read as no text."""
        store = yaml.store(keys=LiveKeys.NAMES)
        ref = SecretRef(DB.environment, SecretName(name))
        activate(store, b"x", ref=ref)
        assert yaml.file.read_text().startswith(f'"{name}": ENC[')
        assert current(store, ref) == b"x"

    @pytest.mark.parametrize("text", ["", " ~", " null # c"])
    def test_nothing_in_yaml_is_filled(self, yaml, text):
        """However nothing is spelt, it is no value of somebody else's."""
        store = yaml.store()
        activate(store, b"x", ref=API)
        yaml.file.write_text(f"DB:{text}\n" + yaml.file.read_text())
        activate(store, b"y")
        assert (current(store), current(store, API)) == (b"y", b"x")
        assert yaml.file.read_text().count("DB:") == 1

    @pytest.mark.parametrize("text", [' ""', " ''", " |\n    \n", " >-\n", " |\n"])
    def test_empty_text_in_yaml_is_replaced(self, yaml, text):
        """In quotes, and over several lines; once it was taken as a version."""
        store = yaml.store()
        activate(store, b"x", ref=API)
        yaml.file.write_text(f"DB:{text}\n" + yaml.file.read_text())
        store.accept(DB, [FieldName("value")])
        assert current(store) == b""
        activate(store, b"y")
        assert (current(store), current(store, API)) == (b"y", b"x")
        assert yaml.file.read_text().count("DB:") == 1

    @pytest.mark.parametrize("text", ["a: &x b\nc: *x\n", "? [a]\n: b\n", "---\na: b\n---\n"])
    def test_yaml_that_cannot_be_followed_is_refused(self, yaml, text):
        """Anchors, keys that are no text, several documents."""
        activate(yaml.store(), b"x")
        before = text + yaml.file.read_text()
        yaml.file.write_text(before)
        with pytest.raises((Corrupt, Rejected)):
            yaml.store().state(DB)
        assert yaml.file.read_text() == before

    def test_yaml_within_braces_is_read_only(self, yaml):
        """Refused, where adding a line would break it."""
        store = yaml.store()
        activate(store, b"x")
        tree = sops._form(".yaml").parse(yaml.file.read_bytes(), file="x")
        sealed = re.search(r"ENC\[[^\]]+\]", yaml.file.read_text())[0]
        yaml.file.write_text(json.dumps({"DB": sealed, "sops": tree.metadata}))
        assert current(store) == b"x"
        with pytest.raises(Rejected) as refusal:
            activate(store, b"y")
        assert refusal.value.code == "store.form"

    def test_json_keeps_its_own_form(self, js):
        """Two blanks to a level, and the metadata in the middle."""
        store = js.store()
        activate(store, b"x")
        activate(store, b"y", ref=API)
        tree = json.loads(js.file.read_text())
        turned = {"DB": tree["DB"], "sops": tree["sops"], "API": tree["API"]}
        text = json.dumps(turned, indent=2)
        js.file.write_text(text)
        activate(store, b"z")
        lines = zip(text.split("\n"), js.file.read_text().split("\n"), strict=True)
        # The value and the MAC; the clock stands still.
        assert len([old for old, new in lines if old != new]) == 2
        bob = recipient(new_identity())
        activate(js.store(recipients=[js.me, bob]), b"w", ref=API)
        whole = json.loads(js.file.read_text())
        assert list(whole) == ["DB", "sops", "API"]
        assert js.file.read_text() == json.dumps(whole, indent=2)

    def test_nothing_in_the_file_but_one_line_of_json(self, js):
        """Written on one line it stays on one line."""
        store = js.store()
        activate(store, b"x")
        js.file.write_text(json.dumps(json.loads(js.file.read_text())))
        activate(store, b"y", ref=API)
        assert js.file.read_text().count("\n") == 0
        assert (current(store), current(store, API)) == (b"x", b"y")

    def test_key_twice_means_the_last(self, env):
        """As for whoever starts a program with it; the MAC tells that it was added."""
        activate(env.store(), b"x")
        env.file.write_text("EMPTY=\nEMPTY=\n" + env.file.read_text())
        assert current(env.store()) == b"x"

    def test_lost_race_is_told(self, scene):
        """A file that was replaced meanwhile is not written over."""
        one, two = scene.store(), scene.store()
        activate(one, b"x")
        number = put(one, b"y")
        activate(two, b"z", ref=API)
        one.promote(DB, number, expected_current=1)
        assert (current(two), current(two, API)) == (b"y", b"z")


def test_metadata_is_flattened_as_sops_does():
    """Lists and mappings by their marks, sorted; and back."""
    tree = {"age": [{"recipient": "r", "enc": "a\nb"}], "mac": "m", "flag": True, "none": None}
    lines = flat(tree)
    assert lines == {
        "sops_age__list_0__map_enc": "a\nb",
        "sops_age__list_0__map_recipient": "r",
        "sops_flag": "true",
        "sops_mac": "m",
    }
    assert list(lines) == sorted(lines)
    back = unflat({name.removeprefix("sops_"): text for name, text in lines.items()})
    assert back == {"age": [{"recipient": "r", "enc": "a\nb"}], "mac": "m", "flag": "true"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (1.5, "1.5"), (1e21, "1" + "0" * 21), (1e-7, "0.0000001"), (-0.0, "-0"),
     (True, "True"), (False, "False"), (12, "12"), (float("inf"), "+Inf"), (float("nan"), "NaN"),
     ("ü", "ü")],
)  # fmt: skip
def test_values_in_clear_count_as_in_go(value, text):
    """Numbers without exponents, flags with a capital."""
    assert clear_bytes(value) == text.encode()
