"""The reference is what the code says now, and says all of it."""

from __future__ import annotations

import difflib
import json
import re
import tomllib

import jsonschema
import pytest

from keyturn.audit import Action
from keyturn.cli.commands import VERBS
from keyturn.cli.exits import Exit
from keyturn.manifest import KINDS
from keyturn.manifest.keys import manifest_table
from keyturn.manifest.shapes import Choice, ListOf, MapOf, Table
from tests.docs.documents import DOCS, ROOT, blocks, tool

generator = tool("docs")
REFERENCE = DOCS / "reference"
PAGES = sorted(generator.pages())


def page(name):
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_it_would_be_written_now(name):
    """Nobody has to remember to describe a change: the page would differ."""
    expected, found = generator.pages()[name], page(name)
    changes = difflib.unified_diff(
        found.splitlines(), expected.splitlines(), "as it is", "as `./dev docs` writes it", n=1
    )
    assert expected == found, "run ./dev docs\n" + "\n".join(changes)


def test_nothing_else_is_in_the_reference():
    """A page of something that is gone does not stay behind."""
    assert PAGES == sorted(path.name for path in REFERENCE.iterdir())


def test_the_reference_is_the_same_each_time():
    """Equal code gives equal bytes."""
    assert generator.pages() == generator.pages()


def test_check_names_what_is_not_current(tmp_path, monkeypatch, capsys):
    """`./dev docs --check` tells an old page and a page too many, and writes nothing."""
    monkeypatch.setattr(generator, "FOLDER", tmp_path)
    assert 0 == generator.main([])
    assert 0 == generator.main(["--check"])
    capsys.readouterr()
    (tmp_path / "kinds.md").write_text("old")
    (tmp_path / "gone.md").write_text("old")
    assert 1 == generator.main(["--check"])
    said = capsys.readouterr().err
    assert "kinds.md is not" in said
    assert "gone.md is not" in said
    assert "old" == (tmp_path / "kinds.md").read_text()


def test_every_command_has_its_section():
    """Each verb, and each verb below `audit`, has a heading."""
    headings = set(re.findall(r"^#+ `keyturn (.+)`$", page("commands.md"), re.MULTILINE))
    assert {*VERBS, "audit log", "audit verify", "audit export"} == headings


def test_every_exit_code_has_its_row():
    """Each code stands in the table."""
    rows = set(map(int, re.findall(r"^\| (\d+) \|", page("exit-codes.md"), re.MULTILINE)))
    assert {code.value for code in Exit} == rows


def test_every_action_and_kind_has_its_row():
    """Each action and each kind stands in its table."""
    actions = re.findall(r"^\| `([a-z.]+)` \|", page("audit-actions.md"), re.MULTILINE)
    assert [str(action) for action in Action] == actions
    kinds = re.findall(r"^\| `([a-z-]+)` \|", page("kinds.md"), re.MULTILINE)
    assert [str(kind) for kind in KINDS] == kinds


def keys_of(shape):
    """Yield every key that *shape* knows, however deep."""
    match shape:
        case Table():
            for key in shape.keys:
                yield key.name
                yield from keys_of(key.shape)
        case MapOf() | ListOf():
            yield from keys_of(shape.item)
        case Choice():
            for option in shape.options:
                yield from keys_of(option)
        case _:
            return


def test_every_manifest_key_has_its_row():
    """Each key of the manifest is a row or a section."""
    text = page("manifest.md")
    missing = [
        name
        for name in keys_of(manifest_table())
        if f"| `{name}` |" not in text
        and not re.search(rf"^## `\[.*\b{name}\b", text, re.MULTILINE)
    ]
    assert [] == missing


def test_every_code_of_an_error_has_its_place():
    """Each code that stands as a text in the source is in the table."""
    text = page("errors.md")
    missing = {
        code
        for path in generator.PACKAGE.rglob("*.py")
        # A simulator speaks with the codes of its vendor.
        if not {"_examples", "simulators"} & set(path.parts)
        for code in re.findall(r'\bcode="([a-z._-]+)"', path.read_text(encoding="utf-8"))
        if f"`{code}`" not in text
    }
    assert set() == missing


def test_every_environment_variable_is_described():
    """Each `KEYTURN_...` that the source names is on the page."""
    found = {
        name
        for path in generator.PACKAGE.rglob("*.py")
        for name in re.findall(r"\bKEYTURN_[A-Z]+\b", path.read_text(encoding="utf-8"))
    }
    text = page("environment.md")
    assert set() == {name for name in found if name not in text}


def test_the_schema_takes_the_example_and_refuses_another():
    """The published schema is one, takes the worked example, and no unknown key."""
    schema = json.loads(page("keyturn.schema.json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    example = tomllib.loads((ROOT / "examples/clipper/keyturn.toml").read_text(encoding="utf-8"))
    assert [] == [error.message for error in validator.iter_errors(example)]
    example["secrets"]["db"]["valeu"] = "x"
    assert not validator.is_valid(example)


def test_quoted_help_is_the_help():
    """Where the README quotes `keyturn --help`, it is what the command says."""
    quoted = [b for b in blocks(ROOT / "README.md") if b.text.startswith("Usage: keyturn")]
    help_text = page("commands.md").split("```text\n", 1)[1].split("```", 1)[0]
    assert all(block.text == help_text for block in quoted)
