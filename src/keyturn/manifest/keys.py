"""Every key of `keyturn.toml`, its form and what it is for: the loader and the schema read this."""

from __future__ import annotations

from enum import StrEnum
from functools import cache

from keyturn.manifest.consumers import RenderFormat, SystemdAction, Workload
from keyturn.manifest.durations import DURATION_PATTERN
from keyturn.manifest.kinds import GenerateFormat, Priority, SecretKind, Strategy
from keyturn.manifest.shapes import Choice, Flag, Key, ListOf, MapOf, Number, Table, Text
from keyturn.manifest.stores import store_table
from keyturn.manifest.targets import target_table
from keyturn.manifest.windows import WINDOW_PATTERN

__all__ = ["MAX_SECRETS", "manifest_table"]

MAX_SECRETS = 5_000

_NAME = Text("a name such as `db-admin`: small letters, digits, `-`", r"[a-z][a-z0-9-]{0,62}")
_FIELD = Text(
    "a field name such as `private_key`: small letters, digits, `_`", r"[a-z][a-z0-9_]{0,62}"
)
_VARIABLE = Text(
    "a variable name such as `DB_PASSWORD`: letters, digits, `_`", r"[A-Za-z_][A-Za-z0-9_]{0,127}"
)
_VARIABLE_OR_NONE = Text(
    'a variable name such as `DB_PASSWORD`, or "" for none',
    r"[A-Za-z_][A-Za-z0-9_]{0,127}",
    empty=True,
)
_DURATION = Text('a duration such as "90d" (s, m, h, d or w)', DURATION_PATTERN)
_LINE = Text("one line of text", r"[^\x00-\x1f\x7f]*", max_length=500, empty=True)
_ADDRESS = Text("an address such as `mailto:security@example.com`", r"[^\x00-\x20\x7f]+")
_URL = Text("an address such as `http://127.0.0.1:8080/health`", r"https?://[^\x00-\x20\x7f]+")
_RECIPIENT = Text("an age recipient, `age1...`", r"age1[02-9ac-hj-np-z]{58}")
_WINDOW = Text(
    'a window such as "2026-12-20..2027-01-05" or "fri 16:00..mon 08:00"', WINDOW_PATTERN
)
_SETTING = Text("a text", r"[^\x00]*", empty=True)
# What Docker and Kubernetes take as a name, and settings to be filled in.
_FILLED = r"([A-Za-z0-9._-]|\$\{[A-Za-z_][A-Za-z0-9_]*\})+"
_INTEGER = Number(-(2**63), 2**63 - 1)
_PLAIN = Choice((_SETTING, _INTEGER, Flag()), "a text, a whole number or `true`/`false`")


def _choices(
    words: type[StrEnum],
    what: str,
) -> Text:
    return Text(what, choices=tuple(word.value for word in words))


@cache
def manifest_table() -> Table:
    """Return the description of a whole manifest."""
    return Table(
        (
            Key("project", _project(), "What this project is.", required=True),
            Key("contacts", _contacts(), "Where notices go."),
            Key(
                "environments",
                MapOf(_NAME, _environment(), "a table of environments", low=1),
                "The places where the project runs.",
                required=True,
            ),
            Key(
                "stores",
                MapOf(_NAME, store_table(), "a table of stores"),
                "Where versions live; without any there is one called `local`.",
            ),
            Key("schedule", _schedule(), "When the schedule acts."),
            Key("backup", _backup(), "What every backup is made with."),
            Key(
                "config",
                MapOf(_VARIABLE, _setting(), "a table of plain settings", high=5_000),
                "Plain settings that are not secret, as they stand or per environment.",
            ),
            Key(
                "consumers",
                MapOf(_NAME, _consumer(), "a table of consumers"),
                "The programs that are given secrets.",
            ),
            Key(
                "secrets",
                MapOf(_NAME, _secret(), "a table of secrets", high=MAX_SECRETS),
                "Every secret of the project. None of their values.",
            ),
        ),
        "the manifest",
    )


def _project() -> Table:
    return Table(
        (
            Key("name", _NAME, "The project's name.", required=True),
            Key("owner", _LINE, "Who answers for every secret that names no owner."),
            Key("description", _LINE, "One line for people."),
        ),
        "`[project]`",
    )


def _contacts() -> Table:
    users = ListOf(_ADDRESS, "a list of addresses", high=100)
    return Table(
        (
            Key("security", _ADDRESS, "Where a leak is told."),
            Key("on_call", _ADDRESS, "Where a failed rotation is told."),
            Key("users", users, "Who is told when a compromise reaches users."),
            Key(
                "smtp",
                Text(
                    "a mail server such as `smtps://mail.example.com:465`",
                    r"smtps?://[^\x00-\x20\x7f@]+",
                ),
                "The server that takes our mail; `smtp:` is upgraded by STARTTLS.",
            ),
            Key("smtp_login", _NAME, "The secret (username, password) of the mail server."),
            Key("sender", _ADDRESS, "The address that our mail comes from."),
        ),
        "`[contacts]`",
    )


def _schedule() -> Table:
    return Table(
        (
            Key(
                "jitter_percent",
                Number(0, 50),
                "Rotations are spread over so much of max_age before they are due.",
                default=5,
            ),
            Key(
                "pair_distance",
                _DURATION,
                "How far apart the members of a pair are rotated.",
                default="1d",
            ),
        ),
        "`[schedule]`",
    )


def _backup() -> Table:
    recipients = ListOf(_RECIPIENT, "a list of age recipients", high=100)
    return Table(
        (Key("recipients", recipients, "Who can open it, beside those that the command names."),),
        "`[backup]`",
    )


def _environment() -> Table:
    return Table(
        (
            Key("store", _NAME, "The store of its versions; may be left out where there is one."),
            Key(
                "protected",
                Flag(),
                "Changes ask for a confirmation and a reason.",
                default=False,
            ),
            Key(
                "last_good",
                _DURATION,
                "How old the values may be that `run` uses while the store does not answer; "
                "if left out, it then refuses.",
            ),
            Key(
                "freeze",
                ListOf(_WINDOW, "a list of windows", high=100),
                "When nothing is rotated by the schedule.",
            ),
            Key(
                "timezone",
                Text("a time zone such as `Europe/Vienna`", r"[A-Za-z][A-Za-z0-9_+/-]*", (), 64),
                "Whose clock the windows are read by.",
                default="UTC",
            ),
        ),
        "an environment",
    )


def _setting() -> Choice:
    each = MapOf(_NAME, _PLAIN, "a table with a value per environment", low=1)
    return Choice(
        (_SETTING, _INTEGER, Flag(), each),
        "a text, a whole number, `true`/`false` or a table with one per environment",
    )


def _consumer() -> Table:
    star = Text('`"*"`', choices=("*",))
    wanted = Choice((star, ListOf(_NAME, "a list of secrets")), '`"*"` or a list of secrets')
    return Table(
        (
            Key(
                "secrets",
                wanted,
                'The secrets it is given; `"*"` for all but those that administer others.',
                required=True,
            ),
            Key("config", Flag(), "It is given the plain settings too.", default=True),
            Key("render", _render(), "A file that is kept current for it."),
            Key("reload", _reload(), "How it is made to take up new versions."),
            Key("health", _health(), "How it shows that it is well."),
        ),
        "a consumer",
    )


def _render() -> Table:
    path = Text("a path inside the project folder", r"[^\x00-\x1f\x7f]+", max_length=1_024)
    mode = Text('permission bits such as "0600"', r"0?[0-7]{3}")
    owner = Text(
        "`name`, `name:group` or numbers",
        r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?",
    )
    return Table(
        (
            Key("path", path, "Where, relative to the project folder.", required=True),
            Key(
                "format", _choices(RenderFormat, "a format"), "How it is written.", default="dotenv"
            ),
            Key("mode", mode, "Its permission bits.", default="0600"),
            Key("owner", owner, "Its owner, and group after a colon."),
        ),
        "`render`",
    )


def _reload() -> Table:
    word = Text("a text of one line", r"[^\x00-\x1f\x7f]+")
    signal = Text(
        "a signal such as `HUP`",
        choices=("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH", "CONT"),
    )
    argument = Text("one argument", r"[^\x00]*", empty=True)
    command = ListOf(argument, "a list of arguments", low=1, high=256, unique=False)
    actions = _choices(SystemdAction, "an action")
    kinds = "|".join(Workload)
    workload = Text("a workload such as `deployment/backend`", rf"({kinds})/{_FILLED}")
    services = ListOf(
        Text("a service's name such as `clipper_backend`", _FILLED),
        "a list of services",
        low=1,
        high=100,
    )
    return Table(
        (
            Key("signal", signal, "The signal that it reloads on, without `SIG`."),
            Key("pid_file", word, "The file with the id of its process."),
            Key("command", command, "A program and its arguments; no shell reads them."),
            Key("systemd", word, "The systemd unit that it is."),
            Key("action", actions, "What is asked of the unit.", default="reload"),
            Key("compose", word, "The compose service that it is."),
            Key("file", word, "The compose file."),
            Key("http", _URL, "Where an empty POST reloads it."),
            Key("kubernetes", workload, "The workload whose pods are replaced."),
            Key("namespace", word, "Its namespace; that of the environment's store if left out."),
            Key("context", word, "The kubeconfig's context, where it is not that of the store."),
            Key("kubeconfig", word, "The kubeconfig, where it is not that of the store."),
            Key("swarm", services, "The services that get the new secrets, one after the other."),
        ),
        "`reload`",
        one_of=("signal", "command", "systemd", "compose", "http", "kubernetes", "swarm"),
        together=(
            ("signal", "pid_file"),
            ("pid_file", "signal"),
            ("action", "systemd"),
            ("file", "compose"),
            ("namespace", "kubernetes"),
            ("context", "kubernetes"),
            ("kubeconfig", "kubernetes"),
        ),
    )


def _health() -> Table:
    dotted = Text("a dotted key such as `info.versions`", r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,15}")
    return Table(
        (
            Key("url", _URL, "The address that answers 200 when it is well.", required=True),
            Key("versions", dotted, "Key of the JSON answer that maps secrets to versions."),
            Key("timeout", _DURATION, "How long it may take after a reload.", default="30s"),
        ),
        "`health`",
    )


def _overridable() -> tuple[Key, ...]:
    """Return the keys that an environment may override."""
    return (
        Key("priority", _choices(Priority, "a priority"), "Which goes first when all must."),
        Key("max_age", _DURATION, "How old a version may grow."),
        Key("grace", _DURATION, "How long the old version works beside the new."),
        Key(
            "strategy",
            _choices(Strategy, "a strategy"),
            "How it is changed, of several ways.",
        ),
        Key("required", Flag(), "Nothing runs without it.", default=True),
        Key("generate", _generate(), "How new values are made."),
        Key("target", target_table(), "What it opens."),
    )


def _secret() -> Table:
    names = ListOf(_NAME, "a list of secrets", high=100)
    only = ListOf(_NAME, "a list of environments", low=1, high=100)
    identity = Text("a name that is not secret", r"[^\x00-\x1f\x7f]+", max_length=256)
    override = Table(_overridable(), "an override")
    return Table(
        (
            Key("kind", _choices(SecretKind, "a kind"), "What it opens.", required=True),
            Key("purpose", _LINE, "What it is for, in one line."),
            Key("owner", _LINE, "Who answers for it; the project's owner if nobody is named."),
            *_overridable(),
            Key("depends_on", names, "Secrets that come before it."),
            Key(
                "automatic",
                Flag(),
                "The schedule rotates it; otherwise it only reminds.",
                default=True,
            ),
            Key(
                "pair",
                _NAME,
                "Secrets with the same word here stand in for each other, and are never "
                "rotated close together.",
            ),
            Key(
                "fields",
                MapOf(_FIELD, _VARIABLE_OR_NONE, "a table of fields", low=1, high=32),
                'Its fields, each with the variable that carries it or "".',
            ),
            Key(
                "variable",
                _VARIABLE_OR_NONE,
                "The variable that carries it, where it has one field.",
            ),
            Key(
                "identity",
                MapOf(_FIELD, identity, "a table of fields", low=1, high=32),
                "Fields that only name something, such as a user name: plain text that "
                "stands beside what is generated.",
            ),
            Key("only", only, "The environments that have it; all if left out."),
            Key(
                "environments",
                MapOf(_NAME, override, "a table of overrides"),
                "What differs in one environment.",
            ),
        ),
        "a secret",
    )


def _generate() -> Table:
    return Table(
        (
            Key(
                "format", _choices(GenerateFormat, "a format"), "How it is written.", required=True
            ),
            Key("bytes", Number(14, 1_024), "Random bytes, for base64, hex and url."),
            Key("length", Number(18, 4_096), "Characters, for alphanumeric and ascii."),
            Key(
                "bits",
                Number(2_048, 4_096, (2_048, 3_072, 4_096)),
                "Size of an RSA key, for pem and pem-base64.",
            ),
        ),
        "`generate`",
    )
