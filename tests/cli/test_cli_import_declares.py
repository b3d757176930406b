"""`import` declares what the manifest does not know, and what is no plain setting after all."""

from __future__ import annotations

import os
import secrets
import subprocess
import tomllib

import pytest

from tests.cli.projects import KEYTURN, MANIFEST, Project

EXAMPLE = """\
# How many may come in at once
PORT=8080
# Where jobs wait
REDIS_URL=redis://localhost:6379/0
CELERY_BROKER_URL=
VAPID_PRIVATE=
TWILIO_ACCOUNT_SID=
PARTNER_CODE=
WAREHOUSE_LOGIN=
LOG_LEVEL=debug
"""


@pytest.fixture
def real():
    """The lines of a real `.env` of `EXAMPLE`, and more; made up for each test."""
    token = secrets.token_hex
    return {
        "PORT": "9000",
        "REDIS_URL": f"redis://:{token(8)}@cache.acme.test:6379/0",
        "CELERY_BROKER_URL": f"amqp://jobs:{token(8)}@mq.acme.test:5672//",
        "VAPID_PRIVATE": token(16),
        "TWILIO_ACCOUNT_SID": "AC" + token(16),
        "PARTNER_CODE": "p" + token(4),
        "WAREHOUSE_LOGIN": f"shop:{token(5)}",
        "LOG_LEVEL": "info",
        "STRANGER": token(10),
        "STRANGE_PORT": "9100",
        "STRANGE_LEVEL": "warn",
        "STRANGE_EMPTY": "",
    }


PLAIN = {"PORT", "LOG_LEVEL", "STRANGE_PORT", "STRANGE_LEVEL", "STRANGE_EMPTY"}


def lines(values):
    """Return *values* as an `.env`."""
    return "".join(f"{name}={text}\n" for name, text in values.items())


def variables(text):
    """Return the variables that the manifest *text* declares: settings, and secrets."""
    manifest = tomllib.loads(text)
    found = set()
    for secret in manifest["secrets"].values():
        found |= {secret["variable"]} if "variable" in secret else set(secret["fields"].values())
    return set(manifest.get("config", {})), found


@pytest.fixture
def stranger(tmp_path):
    """A folder with an `.env.example`, of somebody who has never seen the program."""
    place = Project(tmp_path / "app", tmp_path / "keys")
    place.folder.mkdir()
    (place.folder / ".env.example").write_text(EXAMPLE)
    return place


@pytest.mark.parametrize("source", [".env.example", ".env"])
def test_three_commands_lead_to_a_program_with_all_of_it(source, stranger, real):
    """Every line of the `.env` reaches the program, and no secret stands in the manifest."""
    (stranger.folder / ".env").write_text(lines(real))
    assert 0 == stranger("init", "--from", source).code
    taken = stranger("import", ".env")
    assert (0, b"") == (taken.code, taken.out), taken.text
    shown = stranger("run", "--", "env").out.decode().splitlines()
    assert [] == [f"{name}={text}" for name, text in real.items() if f"{name}={text}" not in shown]
    text = stranger.manifest.read_text()
    assert (PLAIN, real.keys() - PLAIN) == variables(text)
    assert [] == [name for name in real.keys() - PLAIN if real[name] in text + taken.text]
    assert 0 == stranger("doctor").code


def test_it_says_what_it_declared_in_a_line_each(stranger, real):
    """What was a setting until now is told from what is new."""
    (stranger.folder / ".env").write_text(lines(real))
    stranger("init")
    said = stranger("import", ".env").text
    declared = [line for line in said.splitlines() if " declared as the secret " in line]
    assert 5 == len(declared)
    was = "REDIS_URL declared as the secret `redis-url` and no plain setting any more: a password"
    assert f"keyturn.toml: {was}" in said
    assert "keyturn.toml: STRANGER declared as the secret `stranger`: nothing says" in said
    assert "declared as plain settings: STRANGE_PORT, STRANGE_LEVEL, STRANGE_EMPTY\n" in said
    assert "not taken" not in said


def test_comments_stay_and_speak_of_what_they_spoke_of(stranger, real):
    """In the place of a setting that is a secret now stands a comment."""
    (stranger.folder / ".env").write_text(lines(real))
    stranger("init")
    before = stranger.manifest.read_text().splitlines()
    stranger("import", ".env")
    after = stranger.manifest.read_text().splitlines()
    assert [line for line in before if line.startswith("#")] == [
        line
        for line in after[: after.index("[secrets.redis-url]") - 1]
        if line.startswith("#") and "is a secret" not in line
    ][: len([line for line in before if line.startswith("#")])]
    at = after.index("# Where jobs wait")
    assert "# REDIS_URL is a secret: see [secrets]" == after[at + 1]


def test_the_second_import_has_nothing_to_do(stranger, real):
    """Not a byte of the manifest changes, nor a version."""
    (stranger.folder / ".env").write_text(lines(real))
    stranger("init")
    stranger("import", ".env")
    before = stranger.manifest.read_bytes()
    again = stranger("import", ".env", "--json")
    assert (0, before) == (again.code, stranger.manifest.read_bytes())
    told = again.json()
    assert ({}, {}, []) == (told["stored"], told["declared"], told["settings"])


def test_in_json_it_says_the_same(stranger, real):
    """What was declared, what was moved, and what is plain; no value."""
    (stranger.folder / ".env").write_text(lines(real))
    stranger("init")
    result = stranger("import", ".env", "--json")
    told = result.json()
    assert ["STRANGER"] == told["declared"]["stranger"]
    assert {"REDIS_URL", "TWILIO_ACCOUNT_SID", "PARTNER_CODE", "WAREHOUSE_LOGIN"} == set(
        told["moved"]
    )
    assert PLAIN == set(told["settings"])
    assert ([], [], []) == (told["unknown"], told["settings_left"], told["to_declare"])
    assert not any(real[name].encode() in result.out for name in real.keys() - PLAIN)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("-e", "production", "--reason", "x", "--yes"), "`production` is protected, so"),
        (("--no-settings",), "keyturn.toml is left alone (`--no-settings`)"),
    ],
)
def test_where_the_manifest_is_not_its_to_change_it_says_the_lines(words, why, stranger, real):
    """The person adds them, imports again, and has it all; until then it is an error."""
    (stranger.folder / ".env").write_text(lines({"STRANGER": real["STRANGER"], "X_PORT": "9100"}))
    stranger("init")
    before = stranger.manifest.read_text()
    result = stranger("import", ".env", *words)
    assert (1, before) == (result.code, stranger.manifest.read_text())
    assert f"warning: {why}" in result.text
    assert "not taken: STRANGER, X_PORT: `run` would miss them" in result.text
    added = [line[4:] for line in result.text.splitlines() if line.startswith("    ")]
    assert ["[config]", 'X_PORT = "..."', "[secrets.stranger]"] == added[:3]
    assert real["STRANGER"] not in result.text
    secret = "\n".join(added[2:])
    stranger.manifest.write_text(before.replace("[config]", f"[config]\n{added[1]}") + secret)
    where = words if "-e" in words else ()
    assert 0 == stranger("import", ".env", *where).code


@pytest.mark.parametrize("moment", ["values", "settings"])
def test_a_manifest_that_cannot_be_written(moment, project, quick, real, monkeypatch):
    """What is to be added is said, what `run` would miss too, and the next import mends it."""
    values = {"STRANGER": real["STRANGER"]} if moment == "values" else {"PORT": "9000"}
    (project.folder / ".env").write_text(lines(values))

    def full(path, *_, **__):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr("keyturn._internal.durable.replace", full)
        result = quick("import", ".env")
    assert 1 == result.code, result.text
    assert "keyturn.toml cannot be written: No space left on device" in result.text
    assert f"not taken: {next(iter(values))}" in result.text
    assert project.manifest.read_text() == MANIFEST
    assert 0 == quick("import", ".env").code
    assert f"{next(iter(values.values()))}\n".encode() in project("run", "--", "env").out


def test_a_setting_that_differs_elsewhere_is_not_moved(quick, project, real):
    """The other environment's text would be lost: a person decides."""
    split = 'PORT = { default = "8080", production = "80" }'
    project.manifest.write_text(MANIFEST.replace('PORT = "8080"', split))
    before = project.manifest.read_text()
    (project.folder / ".env").write_text(f"PORT={real['VAPID_PRIVATE']}x\n")
    result = quick("import", ".env")
    assert (1, before) == (result.code, project.manifest.read_text())
    assert "not taken: PORT" in result.text


def test_what_run_hands_to_nobody_is_said(quick, dotenv_of):
    """`run` would refuse it, so it is not declared, and that is no success."""
    dotenv_of("SESSION_SECRET=test-session-value-1234567\nNODE_OPTIONS=--inspect\nGOFLAGS=-x\n")
    result = quick("import", ".env")
    assert 1 == result.code
    assert "not taken: NODE_OPTIONS, GOFLAGS" in result.text
    assert "`GOFLAGS`: left out: it decides what programs run" in result.text


def test_a_line_that_was_to_set_something_and_was_not_read(quick, dotenv_of):
    """The program would miss it: no success."""
    dotenv_of('SESSION_SECRET=test-session-value-1234567\nAPI_KEY="never closed\n')
    assert 1 == quick("import", ".env").code
    dotenv_of("SESSION_SECRET=test-session-value-1234567\nno equals sign\n")
    assert 0 == quick("import", ".env").code


@pytest.fixture
def dotenv_of(project):
    """Return a function that writes the project's `.env`."""
    return (project.folder / ".env").write_text


def test_a_byte_order_mark_and_windows_line_ends_stay(quick, project, real):
    """A manifest of another editor's is added to in its own way."""
    raw = b"\xef\xbb\xbf" + MANIFEST.replace("\n", "\r\n").encode()
    project.manifest.write_bytes(raw)
    (project.folder / ".env").write_text(f"GREETING={real['REDIS_URL']}\nSTRANGER=x9y8z7w6\n")
    result = quick("import", ".env")
    assert 0 == result.code, result.text
    data = project.manifest.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    assert b"[secrets.stranger]\r\n" in data
    assert real["REDIS_URL"].encode() not in data


# ---------------------------------------------------------------- what is no file


def pipe(path):
    """Put a pipe in the place of *path*."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path):
    """Put a link to a device that never ends in the place of *path*."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def folder(path):
    """Put a folder in the place of *path*."""
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize("made", [pipe, device, folder])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".env.example", ("init",)),
        (".env.example", ("init", "--from", ".env.example")),
        (".gitignore", ("init",)),
        ("keyturn.toml", ("init",)),
        (".env", ("init", "--from", ".env")),
    ],
)
def test_init_waits_for_nothing_that_is_no_file(made, name, words, stranger):
    """It is refused by name at once, and the same command goes on when it is away."""
    made(stranger.folder / name)
    done = subprocess.run(
        [KEYTURN, *words],
        cwd=stranger.folder,
        env=stranger.environ,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert 2 == done.returncode
    text = done.stderr.decode()
    reason = "cannot be read: Is a directory" if made is folder else "is no plain file"
    assert f"{name}` {reason}" in text
    assert not (stranger.state / "locator").exists()


@pytest.mark.parametrize("made", [pipe, device, folder])
def test_import_waits_for_nothing_that_is_no_file(made, project):
    """But what a shell hands over on purpose is read."""
    made(project.folder / ".env")
    result = project("import", ".env", "--shred")
    assert 2 == result.code
    assert "`.env` " in result.text
    piped = project("import", "/dev/stdin", stdin=b"SESSION_SECRET=test-session-value-1234567\n")
    assert 0 == piped.code, piped.text


# ---------------------------------------------------------------- a full disk


@pytest.mark.parametrize("point", ["manifest", "ignore", "locator", "bundlekey"])
def test_an_init_on_a_full_disk_says_what_is_left_and_is_finished_by_the_next(
    point, stranger, monkeypatch
):
    """The hint names what lies there, and the command that it names does the rest."""
    from keyturn._internal import durable
    from keyturn.errors import Unavailable
    from tests.cli.projects import start

    real_replace = durable.replace

    def full(path, data, **options):
        if options.get("point") == point:
            raise OSError(28, os.strerror(28))
        return real_replace(path, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "replace", full)
        with pytest.raises(Unavailable) as caught:
            start(stranger)
    left = [name for name in ("keyturn.toml", ".keyturn") if (stranger.folder / name).exists()]
    assert ([] == left) == (point == "manifest")
    hint = caught.value.hint
    assert all(f"`{name}`" in hint for name in left)
    assert ("nothing was made" in hint) == (left == [])
    assert "No space left on device" in caught.value.message
    assert 0 == stranger("init").code
    assert 0 == stranger("doctor").code
