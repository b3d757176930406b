"""The sealed bundle: what is written comes back, and one that is not fresh is never opened."""

from __future__ import annotations

import os
import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn import fast
from keyturn.app.delivery import compile_bundle
from keyturn.core.value import SecretValue
from keyturn.deliver.bundle import BundleContent, SecretEntry, encode, fits
from keyturn.deliver.environment import DANGEROUS_NAMES, MAX_ENTRY_BYTES
from keyturn.testing import FakeClock
from tests.cli.projects import DEVELOPMENT, VALUES

WORDS = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)
VARIABLES = st.from_regex(r"X[A-Z0-9_]{0,12}", fullmatch=True)
# Texts without surrogates; of values, every byte.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def content(**changes):
    """Return a bundle's content, of which *changes* says what matters."""
    made = {
        "store_id": "0" * 32,
        "environment": "development",
        "created_seconds": 1_000,
        "not_after_seconds": 2_000,
        "manifest_stamp": "1 2 3 4",
        "database_stamp": "5 6",
        "generation": "a" * 32,
        "consumers": {},
        "config": {},
        "secrets": [],
        **changes,
    }
    return BundleContent(**made)


def opened(made):
    return fast.Bundle(encode(made).reveal())


@given(
    config=st.dictionaries(VARIABLES, TEXTS, max_size=4),
    values=st.lists(
        st.tuples(WORDS, WORDS, st.one_of(st.none(), VARIABLES), st.binary(max_size=60)),
        max_size=5,
    ),
)
def test_what_is_encoded_comes_back(config, values):
    """Every setting and every field comes back byte for byte, newlines and all, in order."""
    secrets = [
        SecretEntry(name, number, field, variable, SecretValue(value))
        for number, (name, field, variable, value) in enumerate(values, 1)
    ]
    found = opened(content(config=config, secrets=secrets)).entries()
    expected = [
        ([b"config", name.encode(), b"%d" % len(text.encode())], text.encode())
        for name, text in config.items()
    ]
    expected += [
        (
            [
                b"secret",
                entry.name.encode(),
                b"%d" % entry.version,
                entry.field.encode(),
                (entry.variable or "-").encode(),
                b"%d" % entry.value.size_bytes,
            ],
            entry.value.reveal(),
        )
        for entry in secrets
    ]
    assert expected == found


def test_the_header_comes_back():
    """What decides on freshness stands in the header, each under its own word."""
    found = opened(content(consumers={"backend": (True, ["db", "jwt"]), "idle": (False, [])}))
    assert [b"0" * 32] == found.one(b"store")
    assert [b"1000"] == found.one(b"created")
    assert [b"1", b"2", b"3", b"4"] == found.one(b"manifest")
    assert [[b"backend", b"config", b"db", b"jwt"], [b"idle", b"-"]] == found.head[b"consumer"]


def test_how_to_ask_comes_back():
    """Line by line, each as its words."""
    found = opened(content(recheck=[("kind", "vault"), ("ca_file", "/a file.pem")]))
    assert [[b"kind", b"vault"], [b"ca_file", b"/a", b"file.pem"]] == found.head[b"recheck"]


def test_another_format_is_no_bundle():
    """A later version of the format, or anything else, is refused by its first line."""
    for plain in (b"", b"keyturn-bundle 2\nstore x\n\n", b"DB_PASSWORD=x\n"):
        with pytest.raises(ValueError):
            fast.Bundle(plain)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("X", b"", True),
        ("X", b"\xff\n\x01", True),
        ("X", b"v" * (MAX_ENTRY_BYTES - 2), True),
        ("X", b"v" * (MAX_ENTRY_BYTES - 1), False),
        ("X", b"a\0b", False),
        *((name, b"v", False) for name in sorted(DANGEROUS_NAMES)[::12]),
        ("LD_PRELOAD", b"v", False),
    ],
)
def test_what_an_environment_may_carry(variable, value, expected):
    """Over-long values, NUL and names that run code do not fit, whatever else they are."""
    assert expected == fits(variable, SecretValue(value))


@pytest.mark.parametrize("of_config", [True, False])
def test_what_does_not_fit_is_marked_and_stops_those_who_want_it(of_config):
    """An unfit value stops the consumer that gets it, and the environment as a whole; no other."""
    bad = {"config": {"BIG": "a\0b"}} if of_config else {}
    secret = SecretEntry("big", 1, "value", "BIG", SecretValue(b"a\0b"))
    made = opened(
        content(
            consumers={"wants": (True, ["big"]), "spared": (False, ["small"])},
            secrets=[
                SecretEntry("small", 1, "value", "SMALL", SecretValue(b"s")),
                *([] if of_config else [secret]),
            ],
            **bad,
        )
    )
    assert ({b"small"}, False) == fast.select(made, "spared")
    for consumer in ("wants", ""):
        with pytest.raises(KeyError):
            fast.select(made, consumer)


def test_a_lacking_secret_stops_those_who_want_it():
    """A required secret without a value stops its consumers and the environment as a whole."""
    made = opened(
        content(
            consumers={"wants": (True, ["big"]), "spared": (True, ["small"])},
            lacking=[("big", "BIG")],
        )
    )
    assert ({b"small"}, True) == fast.select(made, "spared")
    for consumer in ("wants", "", "nobody"):
        with pytest.raises(KeyError):
            fast.select(made, consumer)


# ---------------------------------------------------------------- freshness, one rule at a time


def open_it(project, environment="development"):
    return fast.open_bundle(str(project.folder), environment)


@pytest.fixture
def at_home(project, monkeypatch):
    """The project, whose keys this process finds."""
    monkeypatch.setenv("KEYTURN_HOME", str(project.key_home))
    return project


def test_a_fresh_bundle_opens(at_home):
    """Without a change, the bundle serves what the store holds."""
    found = {b".".join(row[1:4:2]): value for row, value in open_it(at_home).entries()}
    assert VALUES["db.password"] == found[b"db.password"]


def edit(project):
    project.manifest.write_text(project.manifest.read_text().replace("8080", "8081"))


def edit_in_place_and_set_the_time_back(project):
    before = project.manifest.stat()
    edit(project)
    os.utime(project.manifest, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_database(project):
    database = project.state / "store.db"
    shutil.copy2(database, project.state / "copy")
    (project.state / "copy").rename(database)


def change(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def overwrite_database(project):
    """Write an older copy over it and set its time back, as `cp -p` does."""
    database = project.state / "store.db"
    before = database.stat()
    with database.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(content)
    os.utime(database, ns=(before.st_atime_ns, before.st_mtime_ns))


STALE = {
    "the manifest was edited": edit,
    "the manifest was edited and its time set back": edit_in_place_and_set_the_time_back,
    "the manifest is gone": lambda p: p.manifest.unlink(),
    "the database is another file": replace_database,
    "the database was written over": overwrite_database,
    "the database is larger": lambda p: os.truncate(p.state / "store.db", 1 << 20),
    "how the database was left is unknown": lambda p: (p.keys / fast.CLOSED).unlink(),
    "how the database was left is torn": lambda p: os.truncate(p.keys / fast.CLOSED, 20),
    "others may write how the database was left": lambda p: (p.keys / fast.CLOSED).chmod(0o620),
    "the generation is another": lambda p: (p.keys / "generation.development").write_bytes(
        b"f" * 32 + b"\n"
    ),
    "the generation is gone": lambda p: (p.keys / "generation.development").unlink(),
    "the generation is torn": lambda p: os.truncate(p.keys / "generation.development", 7),
    "the generation is empty": lambda p: os.truncate(p.keys / "generation.development", 0),
    "the key is gone": lambda p: (p.keys / "bundle.key").unlink(),
    "the key is empty": lambda p: os.truncate(p.keys / "bundle.key", 0),
    "the key is open to others": lambda p: (p.keys / "bundle.key").chmod(0o640),
    "the bundle is gone": lambda p: p.bundle.unlink(),
    "the bundle is empty": lambda p: os.truncate(p.bundle, 0),
    "the bundle is cut": lambda p: os.truncate(p.bundle, p.bundle.stat().st_size - 1),
    "the bundle is damaged": lambda p: damage(p.bundle),
    "the bundle is open to others": lambda p: p.bundle.chmod(0o604),
    "the bundle is a link": lambda p: (
        p.bundle.rename(p.state / "elsewhere"),
        p.bundle.symlink_to(p.state / "elsewhere"),
    ),
    "the bundle is a pipe": lambda p: (p.bundle.unlink(), os.mkfifo(p.bundle, 0o640)),
    "the locator is gone": lambda p: (p.state / "locator").unlink(),
    "the locator is of another form": lambda p: change(p.state / "locator", b"-1 ", b"-2 "),
    "the locator names another store": lambda p: (p.state / "locator").write_text(
        f"{fast.LOCATOR_MARK} {'0' * 32}\n"
    ),
    "the locator names a path": lambda p: (p.state / "locator").write_text(
        f"{fast.LOCATOR_MARK} ../{p.keys.name}\n"
    ),
    "the locator is open to others": lambda p: (p.state / "locator").chmod(0o644),
    "others may write the state folder": lambda p: p.state.chmod(0o770),
}


@pytest.mark.parametrize("what", STALE)
def test_it_is_declined_where(what, at_home):
    """A bundle is not opened where anything that it was made from, or its keeping, is different."""
    STALE[what](at_home)
    with pytest.raises(Exception) as caught:
        open_it(at_home)
    assert not isinstance(caught.value, AssertionError)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("place", ["bundle", "key", "generation", "locator", "state"])
def test_what_belongs_to_another_is_declined(place, at_home):
    """What somebody else owns could have been put there by them."""
    path = {
        "bundle": at_home.bundle,
        "key": at_home.keys / "bundle.key",
        "generation": at_home.keys / "generation.development",
        "locator": at_home.state / "locator",
        "state": at_home.state,
    }[place]
    os.chown(path, 65534, 65534)
    with pytest.raises(OSError):
        open_it(at_home)


@pytest.mark.parametrize(
    ("made_ago_seconds", "serves"),
    [
        (0, True),
        (-fast.CLOCK_SKEW_SECONDS + 30, True),
        (-fast.CLOCK_SKEW_SECONDS - 30, False),
        (23 * 3600, True),
        (24 * 3600 + 1, False),
    ],
)
def test_its_age(made_ago_seconds, serves, at_home):
    """It serves for a day, and not where it was made in the future: then the clock was set back."""
    clock = FakeClock()
    clock.step(time.time() - made_ago_seconds - clock.now().timestamp())
    at_home.refresh(clock=clock)
    if serves:
        open_it(at_home)
    else:
        with pytest.raises(ValueError, match="stale"):
            open_it(at_home)


def test_the_bundle_of_another_environment_does_not_serve(at_home):
    """A file moved to another environment's place names the environment that it is of."""
    shutil.copy2(at_home.bundle, at_home.bundle.with_name("production.age"))
    shutil.copy2(at_home.keys / "generation.development", at_home.keys / "generation.production")
    with pytest.raises(ValueError, match="stale"):
        open_it(at_home, "production")


@pytest.mark.parametrize("name", ["../bundles/development", "/etc/passwd", "a\0b", "", "ä"])
def test_an_environment_s_name_opens_no_other_file(name, at_home):
    """A path in place of a name never serves a bundle, not even the right one."""
    with pytest.raises((OSError, ValueError)):
        open_it(at_home, name)


def test_what_is_compiled_holds_the_manifest_s_order_and_all_that_lacks(at_home):
    """A required secret without a value is listed by its variables; an optional one is not."""
    session = at_home.session()
    with session.database.transaction():
        made = compile_bundle(session, DEVELOPMENT)
        none = compile_bundle(session, "production")
    session.close()
    assert [] == made.lacking
    assert ["session", "api", "db", "db"] == [entry.name for entry in made.secrets]
    assert ["SESSION_SECRET", "API_KEY", "DB_USER", "DB_PASSWORD"] == [v for _, v in none.lacking]
