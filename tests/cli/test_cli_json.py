"""`--json`: each document has its declared form, and none holds a value."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from keyturn.crypto import new_identity, recipient
from tests.cli.projects import VALUES, empty

SCHEMAS = Path(__file__).with_name("schemas")
TOKEN = b"test-token-Ll1Kk2Jj3Hh4Gg5Ff6Dd7"


IDENTITY = new_identity()
RESTORE = ("restore", "made.age", "--identity", "key.txt")


def prepare(project):
    """Give a project a bit of everything that a document can tell."""
    (project.folder / "new.env").write_bytes(
        b"SESSION_SECRET=canary-imported-123456789\nSTRANGER=canary-stranger\nbroken line\n"
    )
    project.put("token", TOKEN)
    (project.folder / "key.txt").write_bytes(IDENTITY.reveal())
    (project.folder / "team.txt").write_text(recipient(IDENTITY))
    project.manifest.write_text(
        project.manifest.read_text() + '[stores.team]\nkind = "dotenv"\npath = "team.env"\n'
    )


CASES = {
    "list": [("list",), ("list", "-e", "production")],
    "history": [("history", "db"), ("history", "db", "-e", "production")],
    "get": [("get", "api"), ("get", "db.password", "--version", "2")],
    "status": [("status",), ("status", "-e", "production")],
    "test": [("test",), ("test", "token"), ("test", "-e", "production")],
    "doctor": [("doctor",)],
    "render": [("render", "--check"), ("render",), ("render", "--consumer", "worker")],
    "scaffold": [("scaffold", "--check"), ("scaffold",), ("scaffold", "--check", "cron")],
    "import": [("import", "new.env", "--no-shred")],
    "generate": [("generate", "-e", "production", "--reason", "r", "--yes"), ("generate",)],
    "audit-verify": [("audit", "verify")],
    "audit-log": [("audit", "log"), ("audit", "log", "--actor", "nobody-at-all")],
    "init-update": [
        ("init", "--update", "--from", "new.env", "--dry-run"),
        ("init", "--update", "--from", "new.env"),
    ],
    "rotate-plan": [
        ("rotate", "token", "--dry-run"),
        ("rotate", "root-key", "--dry-run"),
        ("rotate", "data-key", "--dry-run"),
    ],
    "remind": [("remind",), ("remind", "-e", "development", "--dry-run", "--by-hand")],
    "tick-plan": [("tick", "--dry-run")],
    "tick": [("tick",), ("tick", "-e", "production", "-e", "development")],
    "rotate-own-key": [("rotate", "root-key"), ("rotate", "data-key")],
    "diff": [("diff", "development", "production")],
    "sync": [
        ("sync", "local", "team", "--dry-run"),
        ("sync", "local", "team"),
        ("sync", "local", "team"),
    ],
    "backup": [
        ("backup", "--to", "b.age", "--recipients-file", "team.txt"),
        ("backup", "--to", "c.age", "--recipients-file", "team.txt", "--with-audit"),
    ],
    "restore-list": [(*RESTORE, "--list")],
    "restore-rehearse": [(*RESTORE, "--rehearse")],
    "restore": [(*RESTORE, "--dry-run"), (*RESTORE, "--overwrite", "token"), RESTORE],
    "rotate": [("rotate", "token"), ("rotate", "--resume", "--now"), ("rotate", "--resume")],
}


@pytest.mark.parametrize("name", CASES)
def test_documents(name, quick, project):
    """The form that is declared in `schemas/`, nothing besides, and no value."""
    prepare(project)
    if name.startswith("restore"):
        quick("backup", "--to", "made.age", "--recipients-file", "team.txt")
        project.put("token", TOKEN + b"-newer")
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    for words in CASES[name]:
        result = quick(*words, "--json")
        assert result.code in {0, 1, 3}, result.text
        jsonschema.validate(result.json(), schema, cls=jsonschema.Draft202012Validator)
        assert result.out.endswith(b"\n")
        for value in (*VALUES.values(), TOKEN, b"canary"):
            if value != VALUES["db.username"]:
                assert value not in result.out + result.err


def test_of_init(tmp_path):
    """What was made and what was left alone."""
    place = empty(tmp_path)
    schema = json.loads((SCHEMAS / "init.json").read_text())
    jsonschema.validate(place("init", "--json").json(), schema)


def test_every_schema_is_used():
    """A form that no test looks at would rot."""
    assert {path.stem for path in SCHEMAS.iterdir()} == CASES.keys() | {"init"}


@pytest.mark.parametrize("words", [("list",), ("status",), ("audit", "log"), ("test",)])
def test_an_error_writes_no_document(words, quick, project):
    """Standard output is empty where there is no result."""
    project.manifest.write_text("broken")
    result = quick(*words, "--json")
    assert (2, b"") == (result.code, result.out)
