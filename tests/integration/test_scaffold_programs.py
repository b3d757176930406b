"""What is generated, judged by the programs that will read it, and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from keyturn.app.scaffolding import FAMILIES, Wishes, scaffold
from tests.cli import projects

EXAMPLE = Path(__file__).parents[2] / "examples" / "clipper"
KEYTURN = Path(sys.executable).with_name("keyturn")
# Lower is better; a unit that says nothing of itself has 9.6.
EXPOSURE = 2.0

MANIFEST = """
[project]
name = "shop"
[environments.development]
[environments.staging]
[environments.production]
protected = true
[consumers.app]
secrets = "*"
[secrets.partner]
kind = "generated"
variable = "PARTNER_KEY"
grace = "0s"
purpose = 'it"s $(touch pwned) `touch pwned` %n'
[secrets.jwt]
kind = "jwt-signing-key"
fields = { private_key = "JWT_KEY", public_key = "JWT_PUBLIC" }
grace = "0s"
[secrets.remote]
kind = "redis-login"
variable = "REMOTE"
"""


@pytest.fixture
def shop(tmp_path):
    """A project with values in two environments, and its generated files."""
    place = projects.empty(tmp_path)
    (place.folder / "keyturn.toml").write_text(MANIFEST)
    for words in (("init",), ("generate",), ("generate", "-e", "staging"), ("scaffold",)):
        done = place(*words)
        assert 0 == done.code, done.text
    return place


@pytest.fixture
def run(shop):
    """Return a function that runs a script of the project, from another folder."""

    def started(name, *words, path=None, script=None, environ=None):
        found = {**shop.environ, "PATH": path or f"{KEYTURN.parent}:/usr/bin:/bin"}
        done = subprocess.run(
            [script or shop.folder / "scripts" / name, *words],
            env={**found, **(environ or {})},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
            timeout=60,
        )
        return projects.Result(done.returncode, done.stdout, done.stderr)

    return started


def version(place, name, environment="development"):
    """Return the number of the current version."""
    rows = place("list", "-e", environment, "--json").json()
    return next(row["current"] for row in rows if row["secret"] == name)


def program(name):
    """Return where *name* is, beside this Python or in PATH."""
    found = shutil.which(name, path=f"{KEYTURN.parent}:{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def generated(folder, **wishes):
    """Generate everything into *folder*."""
    found = Wishes(families=FAMILIES, **wishes)
    return scaffold(folder, folder / "keys", found, write=True)


@pytest.fixture
def clipper(tmp_path):
    """A copy of the example, with what is generated for it."""
    for name in ("keyturn.toml", ".env.example"):
        shutil.copy(EXAMPLE / name, tmp_path / name)
    generated(tmp_path, program="/bin/true")
    return tmp_path


def test_the_example_is_current():
    """What is generated for Clipper is what its manifest gives now."""
    found = scaffold(EXAMPLE, EXAMPLE, Wishes(), write=False)
    # Its timers for cron and Kubernetes are there, so they are looked at too.
    assert set(FAMILIES) == {each.family for each in found}
    assert [] == [(each.path, each.state) for each in found if each.state != "current"]


def test_shellcheck_has_nothing_to_say(clipper, shop):
    """Of no script, in no severity."""
    scripts = [*(clipper / "scripts").iterdir(), *(shop.folder / "scripts").iterdir()]
    assert len(scripts) == 4 + 3
    found = subprocess.run(
        [program("shellcheck"), "--severity=style", "--shell=sh", *scripts],
        capture_output=True,
        text=True,
    )
    assert (0, "", "") == (found.returncode, found.stdout, found.stderr)


@pytest.mark.parametrize(
    "reload",
    [
        'signal = "HUP"\npid_file = "run/backend.pid"',
        'systemd = "backend.service"',
        'compose = "backend"',
        'command = ["./reload", "100% \\\\ \\" $x"]',
    ],
)
@pytest.mark.parametrize("owner", ["", 'owner = "www-data"'])
def test_systemd_takes_the_units_in_silence(clipper, reload, owner):
    """Nothing on standard error, whatever the consumers need; and each is tight."""
    manifest = clipper / "keyturn.toml"
    text = manifest.read_text()
    text = text.replace('signal = "HUP"\npid_file = "run/backend.pid"', reload)
    text = text.replace('path = "run/backend.env"', f'path = "run/b %h \'\\" c/env"\n{owner}')
    manifest.write_text(text)
    generated(clipper, program="/bin/true")
    units = sorted((clipper / "systemd").iterdir())
    assert 4 == len(units)
    found = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", *units], capture_output=True, text=True
    )
    assert (0, "", "") == (found.returncode, found.stdout, found.stderr)
    for unit in units:
        if unit.suffix == ".service":
            judged = subprocess.run(
                [program("systemd-analyze"), "security", "--offline=true", "--no-pager", unit],
                capture_output=True,
                text=True,
            )
            score = re.search(r"exposure level for \S+: ([0-9.]+)", judged.stdout)
            assert score is not None, judged.stderr
            assert float(score[1]) <= EXPOSURE


def test_systemd_reads_the_paths_that_were_meant(clipper):
    """Blanks, quotes and `%` in a path of the manifest come out as they went in."""
    manifest = clipper / "keyturn.toml"
    odd = "run/b %h '\\\" c"
    manifest.write_text(manifest.read_text().replace("run/backend.env", f"{odd}/env"))
    generated(clipper)
    text = (clipper / "systemd" / "clipper-keyturn-tick.service").read_text()
    assert '"/opt/clipper/run/b %%h \'\\" c"' in text


def test_a_script_rotates(shop, run):
    """The plan touches nothing; then it is done, in the environment that was named."""
    api = "rotate-api-keys.sh"
    planned = run(api, "--service", "partner", "--environment", "staging", "--dry-run")
    assert 0 == planned.code, planned.text
    assert b"promote" in planned.out
    assert 1 == version(shop, "partner", "staging")
    done = run(api, "--service=partner", "--environment=staging")
    assert 0 == done.code, done.text
    assert (2, 1) == (version(shop, "partner", "staging"), version(shop, "partner"))
    assert 0 == run("rotate-jwt-keys.sh", "-e", "development", "--now").code
    assert 2 == version(shop, "jwt")


def test_the_environment_is_the_one_that_counts(shop, run):
    """Named, else that of the process, else production; which asks for a reason."""
    api = ("rotate-api-keys.sh", "--service", "partner")
    refused = run(*api, "--yes")
    assert 4 == refused.code
    assert "reason" in refused.text
    assert 0 == run(*api, environ={"KEYTURN_ENVIRONMENT": "staging"}).code
    assert 2 == version(shop, "partner", "staging")
    # A reason with blanks, quotes and a star is one argument.
    shop("generate", "-e", "production", "--reason", "x", "--yes")
    done = run(*api, "--yes", "--reason", "it's *  due")
    assert 0 == done.code, done.text
    assert "it's *  due" in {record.get("reason") for record in shop.actions()}


def test_the_retrieval_test_is_run_where_it_was_asked_for(shop, run):
    """`--environment staging` means staging, and the exit code is that of the test."""
    name = "test-secrets-retrieval.sh"
    found = run(name, "--environment", "staging", "--json")
    assert "staging" == found.json()["environment"]
    # One of its secrets has no value, and the rest was looked at all the same.
    assert shop("test", "-e", "staging").code == found.code
    assert {"partner", "jwt"} <= {check["subject"] for check in found.json()["checks"]}
    assert 1 == run(name).code
    said = run(name, "--dry-run").out.decode()
    assert f"would run: keyturn test --project-dir {shop.folder} -e production\n" == said


def test_an_exit_code_is_passed_on(run):
    """Here: a rotation that cannot be, because its target is not described."""
    more = run("rotate-api-keys.sh", "--service", "nothing")
    assert (2, b"") == (more.code, more.out)
    assert "no service 'nothing'; there are partner" in more.text


def test_the_first_failure_counts_and_the_rest_is_done(tmp_path):
    """Of several logins each gets its turn; an interrupt ends it at once."""
    more = "".join(
        f'[secrets.{name}]\nkind = "postgres-login"\n'
        f'fields = {{ username = "{name.upper()}_U", password = "{name.upper()}_P" }}\n'
        for name in ("one", "two", "three")
    )
    text = f'[project]\nname = "shop"\n[environments.production]\n{more}'
    (tmp_path / "keyturn.toml").write_text(text)
    fake = tmp_path / "bin" / "keyturn"
    fake.parent.mkdir()
    generated(tmp_path)

    def told(codes):
        fake.write_text(f'#!/bin/sh\necho "$2"\ncase $2 in {codes} esac\n')
        fake.chmod(0o755)
        done = subprocess.run(
            [tmp_path / "scripts" / "rotate-db-password.sh"],
            env={"PATH": f"{fake.parent}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout.split()

    assert (0, ["one", "two", "three"]) == told("")
    assert (7, ["one", "two", "three"]) == told("one) exit 7 ;; three) exit 1 ;;")
    assert (130, ["one", "two"]) == told("two) exit 130 ;;")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--environment",), "--environment needs a value"),
        (("--environment", "--dry-run"), "--environment needs a value, not '--dry-run'"),
        (("--environment", ""), "--environment needs a value, not ''"),
        (("--wrong",), "unknown option '--wrong'"),
        (("surplus",), "unknown option 'surplus'"),
        ((), "name a service: --service partner"),
    ],
)
def test_wrong_use_is_told(run, words, said):
    """With exit code 2, before anything is run."""
    found = run("rotate-api-keys.sh", *words, path="/usr/bin:/bin")
    assert (2, b"") == (found.code, found.out)
    assert said in found.text


@pytest.mark.parametrize(
    "name", ["rotate-api-keys.sh", "rotate-jwt-keys.sh", "test-secrets-retrieval.sh"]
)
def test_help_needs_nothing(run, name):
    """Not even keyturn."""
    found = run(name, "--help", path="/usr/bin:/bin")
    assert (0, b"") == (found.code, found.err)
    assert b"--environment NAME" in found.out


def test_without_keyturn_it_says_so(run):
    """As a shell says it of a command that is not there."""
    found = run("rotate-jwt-keys.sh", "--dry-run", path="/usr/bin:/bin")
    assert 127 == found.code
    assert "keyturn is not installed" in found.text


def test_it_finds_its_project(shop, run, tmp_path):
    """Through a link from another folder; one that was copied away says what it lacks."""
    link = tmp_path / "link to it"
    link.symlink_to(shop.folder / "scripts" / "rotate-jwt-keys.sh")
    planned = run("", "-e", "development", "--dry-run", script=link)
    assert 0 == planned.code, planned.text
    lost = tmp_path / "far" / "away" / "rotate-jwt-keys.sh"
    lost.parent.mkdir(parents=True)
    shutil.copy(link, lost)
    found = run("", "--dry-run", script=lost)
    assert 2 == found.code
    assert "no keyturn.toml in " in found.text


def test_nothing_was_run_out_of_the_manifest(shop, run):
    """A purpose is text: in no script, and in no shell."""
    run("rotate-api-keys.sh", "--help")
    run("test-secrets-retrieval.sh", "--dry-run")
    assert not list(shop.folder.rglob("pwned"))
    assert not Path("/pwned").exists()


def test_no_value_is_in_what_is_generated(shop):
    """They are in the store, and there alone."""
    values = [shop("get", name).out for name in ("PARTNER_KEY", "JWT_KEY")]
    assert all(len(value) > 20 for value in values)
    for path in shop.folder.rglob("*"):
        if path.is_file() and ".keyturn" not in path.parts:
            assert not any(value in path.read_bytes() for value in values), path
