"""`init --update`: what an example has come to declare is put into the manifest that is there."""

from __future__ import annotations

import pytest

from tests.cli.projects import MANIFEST, fingerprint

DECLARED = (
    "PORT=8080\nGREETING=hi\nSESSION_SECRET=\nAPI_KEY=\nDB_USER=u\nDB_PASSWORD=changeme\n"
    "# WEBHOOK_TOKEN=\n"
)
NEW = "BUCKET=pictures\nOPENAI_API_KEY=\n"


@pytest.fixture
def example(project):
    """Return a function that writes the project's `.env.example`."""

    def write(text):
        (project.folder / ".env.example").write_text(text)

    return write


def test_it_adds_what_is_new_and_says_what(example, quick, project):
    """Nothing else changes, not the file's mode either; what was added works at once."""
    example(DECLARED.replace("GREETING=hi\n", "") + NEW)
    project.manifest.chmod(0o640)
    result = quick("init", "--update")
    assert (0, b"") == (result.code, result.out)
    assert [
        "added: secret `openai` (openai-key): OPENAI_API_KEY",
        "added: settings BUCKET",
        "review: `openai`: no consumer is given it: add it to the `secrets` of one",
        f"in keyturn.toml and not in `{project.folder}/.env.example`: GREETING",
        "next: `keyturn generate --missing`, or `keyturn set NAME`",
    ] == result.text.splitlines()
    kept = iter(project.manifest.read_text().splitlines())
    assert all(line in kept for line in MANIFEST.splitlines())
    assert 0o640 == project.manifest.stat().st_mode & 0o777
    assert 0 == quick("set", "openai", "-", stdin=b"test-openai-key-1234567890").code
    shown = project("run", "--", "printenv", "BUCKET", "OPENAI_API_KEY")
    assert b"pictures\ntest-openai-key-1234567890\n" == shown.out


def test_a_dry_run_shows_it_and_writes_nothing(example, quick, project):
    """The difference is the result; the words about it are talk."""
    example(DECLARED + NEW)
    before = fingerprint(project.folder, project.key_home)
    result = quick("init", "--update", "--dry-run")
    assert 0 == result.code
    lines = result.out.decode().splitlines()
    assert {'+BUCKET = "pictures"', "+[secrets.openai]"} <= set(lines)
    assert [] == [line for line in lines[2:] if line.startswith("-")]
    assert "would be added: secret `openai`" in result.text
    assert before == fingerprint(project.folder, project.key_home)


def test_nothing_new(example, quick, project):
    """It is said, and the manifest is not written."""
    example(DECLARED)
    before = project.manifest.stat().st_ino, project.manifest.stat().st_mtime_ns
    result = quick("init", "--update", "--from", ".env.example")
    assert (0, "nothing of `.env.example` is to be added to keyturn.toml\n") == (
        result.code,
        result.text,
    )
    assert before == (project.manifest.stat().st_ino, project.manifest.stat().st_mtime_ns)


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (("--update",), 2, "there is no example of an .env", "`--from`"),
        (("--update", "--from", "absent"), 2, "no file `absent`", "`--from`"),
        (("--update", "--name", "x"), 2, "neither `--name` nor", "keyturn.toml alone"),
        (("--update", "--passphrase"), 2, "neither `--name` nor", "keyturn.toml alone"),
        (("--dry-run",), 2, "`--dry-run` goes with `--update`", "add `--update`"),
        (("--from", ".env"), 5, "has a store already", "init --update --from .env` adds"),
        (("--update", "--project-dir", "run"), 2, "no `keyturn.toml` in", "`keyturn init`"),
    ],
)
def test_refusals(words, code, message, hint, quick, project):
    """Each names what is wrong and the way on; the manifest stays as it was."""
    (project.folder / "run").mkdir()
    (project.folder / ".env").write_text("A=b\n")
    result = quick("init", *words)
    assert (code, b"") == (result.code, result.out)
    assert message in result.text
    assert hint in result.text.partition("\nhint: ")[2]
    assert MANIFEST == project.manifest.read_text()


@pytest.mark.parametrize("content", [b"broken", b"\xff\xfe", MANIFEST.encode() + b"# \xff\n"])
def test_a_manifest_that_cannot_be_read_is_left_alone(content, example, quick, project):
    """Not a byte of it is replaced by another."""
    example(NEW)
    project.manifest.write_bytes(content)
    assert 2 == quick("init", "--update").code
    assert content == project.manifest.read_bytes()
