"""
The first manifest of a project, drafted from its `.env.example`.

Names that are known become secrets of the right kind, plain settings go to `[config]`,
and everything that a person should look at is marked `# review`. No value of a secret
is copied, and what comes out always loads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from keyturn.core.ids import FieldName, SecretName, VariableName, is_name
from keyturn.errors import Problem, UsageError
from keyturn.manifest import _toml
from keyturn.manifest._reserved import is_keyturn_variable, is_refused_variable
from keyturn.manifest.durations import format_duration
from keyturn.manifest.envfile import EnvEntry, EnvFile
from keyturn.manifest.kinds import Making, SecretKind, is_identifier, kind_spec
from keyturn.manifest.recognise import Recognised, alone, in_order, recognise
from keyturn.manifest.strength import (
    find_values,
    holds_value,
    is_placeholder,
    looks_like_secret,
)

__all__ = ["Draft", "DraftedSecret", "ReviewNote", "Work", "draft", "project_name_from"]

MAX_VARIABLES = 2_000
MAX_SIZE_BYTES = 1_000_000
_MAX_SETTING = 4_096
# Shorter ones turn up in words that have nothing to do with them.
_MIN_SECRET = 6
_MAX_COMMENT = 120
_MAX_PURPOSE = 200
_OPTIONAL = re.compile(r"\boptional\b", re.IGNORECASE)
_NOT_OPTIONAL = re.compile(r"\b(?:not?|non|isn't|never)[ -]optional\b", re.IGNORECASE)
# A heading that only mentions the word, such as a file's own, says it of nothing.
_OPTIONAL_HEADING = re.compile(r"^\W*optional\b|\boptional\W*$", re.IGNORECASE)
_DEVELOPMENT_ONLY = re.compile(
    r"\b(?:localhost|127\.0\.0\.1|0\.0\.0\.0|development|debug|local|host\.docker\.internal)\b"
)
_IDENTITY = re.compile(r"[A-Za-z0-9_.@-]{1,63}")
_PORT = re.compile(r"[1-9][0-9]{0,3}|[1-5][0-9]{4}")
_SSL_MODE = re.compile(r"disable|allow|prefer|require|verify-ca|verify-full")
_HOST = re.compile(r"[^\x00-\x20\x7f]+")
_WHICH_LOGIN = "which login? name it"
_DECORATION = "#=-*~_+ \t"
_TARGET_SUFFIXES = {
    "host": ("HOST", "HOSTNAME", "SERVER"),
    "port": ("PORT",),
    "database": ("NAME", "DATABASE", "DB", "DBNAME"),
    "sslmode": ("SSLMODE", "SSL_MODE"),
}
_TARGET_FORMS = {"host": _HOST, "port": _PORT, "database": _HOST, "sslmode": _SSL_MODE}


@dataclass(frozen=True, slots=True)
class ReviewNote:
    """Something a person should look at: *name* is a secret's or a variable's."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"`{self.name}`: {self.reason}"


@dataclass(frozen=True, slots=True)
class DraftedSecret:
    """A secret as drafted."""

    name: SecretName
    kind: SecretKind
    variables: tuple[VariableName, ...]
    required: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """
    A drafted manifest.

    Args:
        text: The content of `keyturn.toml`.
        review: Everything that is marked `# review` in it, and what was left out.
        findings: Values in the example that look real, by line; never quoted.
        settings: The variables that went to `[config]`, commented-out ones aside.
    """

    text: str
    review: tuple[ReviewNote, ...]
    findings: tuple[Problem, ...]
    secrets: tuple[DraftedSecret, ...]
    settings: tuple[VariableName, ...]


def project_name_from(text: str) -> str:
    """Return a project name made of *text*, such as a folder's name; `app` where none can be."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].rstrip("-")
    return slug if is_name(slug) else "app"


def draft(
    envfile: EnvFile, *, project_name: str, owner: str | None = None, example: bool = True
) -> Draft:
    """
    Return a manifest for the variables of *envfile*.

    Args:
        owner: Who answers for the secrets; without one a placeholder is marked for review.
        example: *envfile* is an example, so a value in it that looks real is a finding.
            Without it the file is a real `.env`: there is no such finding, and no comment
            is carried over, since a private file's may say anything.

    Raises:
        UsageError: *project_name* is no name, or the file has more than a manifest can hold.
    """
    if not is_name(project_name):
        raise UsageError(
            "a project's name has small letters, digits and `-` only",
            hint=f"use `{project_name_from(project_name)}`",
        )
    if len(envfile.entries) > MAX_VARIABLES:
        raise UsageError(
            f"`{envfile.file}` has more than {MAX_VARIABLES} variables",
            hint="draft from a smaller file and add the rest by hand",
        )
    work = Work(envfile, project_name, example)
    work.sort_out()
    text = "\n".join([*work.head(owner), *work.config(), *work.consumers(), *work.secrets()]) + "\n"
    if len(text.encode("utf-8", "replace")) > MAX_SIZE_BYTES:
        raise UsageError(
            f"a manifest for `{envfile.file}` would be larger than 1 MB",
            hint="take long plain settings out of it",
        )
    return Draft(
        text=text,
        review=tuple(work.review),
        findings=work.findings() if example else (),
        secrets=tuple(work.drafted),
        settings=tuple(e.name for e in work.settings if not e.commented_out),
    )


@dataclass(slots=True)
class Work:
    """One draft in the making."""

    envfile: EnvFile
    project: str
    example: bool = True
    recognised: tuple[Recognised, ...] = ()
    settings: list[EnvEntry] = field(default_factory=list)
    left_out: list[tuple[EnvEntry, str]] = field(default_factory=list)
    review: list[ReviewNote] = field(default_factory=list)
    drafted: list[DraftedSecret] = field(default_factory=list)
    values: frozenset[str] = frozenset()

    def sort_out(self) -> None:
        """Tell secrets from settings, and both from what cannot be handed on."""
        entries: dict[str, EnvEntry] = {}
        for entry in self.envfile.entries:
            # A live entry counts before the same one commented out.
            if entry.name not in entries or entries[entry.name].commented_out:
                entries[entry.name] = entry
        for name in tuple(entries):
            if is_keyturn_variable(name):
                self._leave_out(entries.pop(name), "Keyturn sets names of this form itself")
            elif is_refused_variable(name):
                self._leave_out(entries.pop(name), "it decides what programs run")
        self.recognised, plain = recognise(entries, _text, real=not self.example)
        self.values = frozenset(self._secret_texts())
        self.recognised = tuple(map(self._settled, self.recognised))
        refused: list[Recognised] = []
        for entry in plain:
            reason = self._no_setting(entry)
            if reason is None:
                self.settings.append(entry)
            elif self.example:
                self._leave_out(entry, reason)
            else:
                # The program has it from this file, and would miss it.
                refused.append(alone(entry, reason))
        self.recognised = in_order((*self.recognised, *refused))

    def _no_setting(self, entry: EnvEntry) -> str | None:
        """Return why *entry* cannot stand in `[config]`; None where it can."""
        text = _text(entry)
        if len(text) > _MAX_SETTING:
            return "it is too long for a plain setting"
        if next(find_values(_setting_line(entry)), None) is not None or (
            not entry.commented_out and holds_value(entry.name, text) is not None
        ):
            return "it looks like a secret"
        return "it holds the value of a secret" if self._repeats_secret(text) else None

    def _secret_texts(self) -> Iterable[str]:
        """Yield the values that must turn up nowhere in the draft."""
        for one in self.recognised:
            for key, entry in one.fields.items():
                text = _text(entry)
                if is_identifier(one.kind, key) or is_placeholder(text):
                    continue
                # An example's `DB_PASSWORD=shop` says no more than its `DB_NAME=shop`.
                if self.example and looks_like_secret(entry.name, text) is None:
                    continue
                if len(text) >= _MIN_SECRET:
                    yield text

    def _repeats_secret(self, text: str) -> bool:
        return any(value in text for value in self.values)

    def findings(self) -> tuple[Problem, ...]:
        """Return the values of the example that look real."""
        found = []
        for entry in self.envfile.entries:
            reason = looks_like_secret(entry.name, _text(entry))
            if reason is not None:
                problem = Problem(
                    file=self.envfile.file,
                    line=entry.line,
                    key=entry.name,
                    message=f"looks like a real value: {reason}",
                    fix="put a placeholder there; if it was ever shared, change it where it "
                    "is used",
                )
                found.append(problem)
        return tuple(found)

    def head(self, owner: str | None) -> list[str]:
        """Return everything before `[config]`."""
        # Its name alone: where it lay on somebody's machine is nobody's business.
        origin = self.envfile.file.replace("\\", "/").rpartition("/")[2][:80]
        if owner is None:
            answer = f'owner = "team-{self.project}"  {self._mark("owner", "who answers for it?")}'
        else:
            answer = f"owner = {_toml.quoted(owner)}"
        return [
            _toml.comment(f"Drafted by `keyturn init` from {_safe(origin) or 'a file'}."),
            "# It holds no value of a secret, ever: those are in the store.",
            "",
            "[project]",
            f"name = {_toml.quoted(self.project)}",
            answer,
            "",
            "# Where notices go.",
            "# [contacts]",
            '# security = "mailto:security@example.com"',
            "",
            "[environments.development]",
            'store = "local"',
            "",
            "[environments.production]",
            'store = "local"',
            "protected = true  # asks for a confirmation and a reason",
            "",
            "[stores.local]",
            'kind = "embedded"',
        ]

    def config(self) -> list[str]:
        """Return `[config]`, with the example's own comments."""
        lines = ["", "# Plain settings. A table gives each environment its own:"]
        lines.append('# NAME = { development = "...", production = "..." }')
        lines.append("[config]")
        last_line = None
        for entry in self.settings:
            # What stood apart in the example stands apart here.
            if last_line is not None and entry.line - len(entry.comments) > last_line + 1:
                lines.append("")
            last_line = entry.line
            lines += self.setting(entry)
        for entry, reason in self.left_out:
            lines.append(f"# review: `{entry.name}` was left out: {reason}")
            self.review.append(ReviewNote(entry.name, f"left out: {reason}"))
        return lines

    def setting(self, entry: EnvEntry) -> list[str]:
        """Return the lines of one plain setting, its comments before it."""
        lines, line = self._comments(entry), _setting_line(entry)
        if entry.commented_out:
            return [*lines, f"# {line}"]
        if _DEVELOPMENT_ONLY.search(_text(entry)):
            line += f"  {self._mark(entry.name, 'production needs its own')}"
        return [*lines, line]

    def consumers(self) -> list[str]:
        """Return one consumer that is given everything."""
        words = (c for e in self.envfile.entries for c in (*e.comments, *e.heading))
        name = "backend" if any("backend" in text.lower() for text in words) else "app"
        return [
            "",
            "# Who is given the secrets: `keyturn run -- COMMAND`.",
            f"[consumers.{name}]",
            'secrets = "*"',
        ]

    def secrets(self) -> list[str]:
        """Return every `[secrets.NAME]`."""
        lines: list[str] = []
        for one in self.recognised:
            lines += self._secret(one)
        return lines

    def _secret(self, one: Recognised) -> list[str]:
        spec = kind_spec(one.kind)
        required = not _may_lack(one)
        lines = ["", *(self._mark(one.name, reason) for reason in one.review)]
        lines += [f"[secrets.{one.name}]", f'kind = "{one.kind}"']
        lines.append(f"purpose = {_toml.quoted(self._purpose(one) or spec.summary)}")
        lines.append(f'priority = "{spec.priority}"')
        if spec.max_age is not None:
            lines.append(f'max_age = "{format_duration(spec.max_age)}"')
        if not required:
            lines.append("required = false")
        lines += self._fields(one)
        if one.generate is not None:
            lines.append(f"generate = {one.generate}")
        if one.kind is SecretKind.POSTGRES_LOGIN:
            lines += self._target(one)
        variables = tuple(entry.name for entry in one.fields.values())
        drafted = DraftedSecret(one.name, one.kind, variables, required)
        self.drafted.append(drafted)
        return lines

    def _fields(self, one: Recognised) -> list[str]:
        if tuple(one.fields) == (FieldName("value"),):
            return [f'variable = "{one.fields[FieldName("value")].name}"']
        names = {str(key): str(entry.name) for key, entry in one.fields.items()}
        lines = [f"fields = {_toml.inline_table(names)}"]
        if kind_spec(one.kind).making is Making.RANDOM:
            lines += self._identity(one)
        return lines

    def _identity(self, one: Recognised) -> list[str]:
        """Return the plain names that stand beside a generated password."""
        entry = one.fields.get(FieldName("username"))
        if entry is None and one.kind is not SecretKind.POSTGRES_LOGIN:
            return []
        text = self._login(entry)
        if not text:
            return [self._mark(one.name, f"{_WHICH_LOGIN}: identity = {{ username = ... }}")]
        line = f"identity = {_toml.inline_table({'username': text})}"
        if not is_placeholder(text):
            return [line]
        return [f"{line}  {self._mark(one.name, 'is this its name?')}"]

    def _login(self, entry: EnvEntry | None) -> str:
        """Return the name of a login that *entry* gives; empty where it gives none."""
        text = _text(entry) if entry is not None else ""
        usable = _IDENTITY.fullmatch(text) is not None and not _to_fill_in(text)
        usable = usable and looks_like_secret("username", text) is None
        return text if usable and not self._repeats_secret(text) else ""

    def _settled(self, one: Recognised) -> Recognised:
        """Return *one*; by hand where all its fields, the login's name too, would be random."""
        entry = one.fields.get(FieldName("username"))
        if one.kind is not SecretKind.GENERATED or entry is None or self._login(entry):
            return one
        why = f"{_WHICH_LOGIN} with `identity` to have the password made here (`generated`)"
        return replace(one, kind=SecretKind.GUIDED, generate=None, review=(why,))

    def _target(self, one: Recognised) -> list[str]:
        """Return the database that a login opens; a comment until an admin login is known."""
        known = self._target_settings(one)
        admin = next(
            (
                other.name
                for other in self.recognised
                if other.prefix == one.prefix
                and other.name.endswith("-admin")
                and {FieldName("username"), FieldName("password")} <= other.fields.keys()
            ),
            None,
        )
        ready = admin is not None and {"host", "database"} <= known.keys()
        guessed = {"host": f"${{{one.prefix}HOST}}", "database": f"${{{one.prefix}NAME}}"}
        shown = known if ready else guessed | known
        lines = [f"[secrets.{one.name}.target]"]
        lines += [f"{key} = {_toml.quoted(text)}" for key, text in shown.items()]
        lines.append(f'admin = "{admin or f"{one.name}-admin"}"')
        if ready:
            return ["", *lines]
        mark = self._mark(one.name, "uncomment once Keyturn may administer logins")
        return ["", mark, *(f"# {line}" for line in lines)]

    def _target_settings(self, one: Recognised) -> dict[str, str]:
        by_name = {e.name.upper(): e for e in self.settings if not e.commented_out}
        known: dict[str, str] = {}
        for key, suffixes in _TARGET_SUFFIXES.items():
            for suffix in suffixes:
                entry = by_name.get(f"{one.prefix}{suffix}")
                if entry is not None and _TARGET_FORMS[key].fullmatch(_text(entry)):
                    known[key] = f"${{{entry.name}}}"
                    break
        return known

    def _comments(self, entry: EnvEntry) -> list[str]:
        """Return the example's comments on *entry* that are worth keeping and safe to keep."""
        texts = [*entry.comments, entry.note] if entry.note else [*entry.comments]
        kept = [self._safe_comment(text) for text in texts[-4:]]
        return [_toml.comment(text) for text in kept if text]

    def _purpose(self, one: Recognised) -> str:
        first = min(one.fields.values(), key=lambda entry: entry.line)
        for text in (*first.comments, first.note):
            bare = self._safe_comment(text)[:_MAX_PURPOSE]
            if bare and any(c.isalpha() for c in bare):
                return bare
        return ""

    def _safe_comment(self, text: str) -> str:
        return _safe(text) if self.example and not self._repeats_secret(text) else ""

    def _mark(self, name: str, reason: str) -> str:
        self.review.append(ReviewNote(name, reason))
        return f"# review: {reason}"

    def _leave_out(self, entry: EnvEntry, reason: str) -> None:
        self.left_out.append((entry, reason))


def _text(entry: EnvEntry) -> str:
    # An example's value decides what is a secret; only a plain setting's is written down.
    return entry.value.reveal_text()


def _setting_line(entry: EnvEntry) -> str:
    return f"{entry.name} = {_toml.quoted(_text(entry))}"


def _to_fill_in(text: str) -> bool:
    """Tell whether *text* asks to be replaced, as a plain `postgres` does not."""
    return is_placeholder(text) and re.fullmatch(r"[a-z]{3,20}", text) is None


def _may_lack(one: Recognised) -> bool:
    """Tell whether the example says that *one* is optional; empty is only not filled in."""
    spec = kind_spec(one.kind)
    entries = [entry for key, entry in one.fields.items() if key not in spec.optional_fields]
    if all(entry.commented_out for entry in entries):
        return True
    return any(
        any(map(_says_optional, (*entry.comments, entry.note)))
        or any(map(_OPTIONAL_HEADING.search, entry.section))
        for entry in entries
    )


def _says_optional(text: str) -> bool:
    return _OPTIONAL.search(text) is not None and _NOT_OPTIONAL.search(text) is None


def _safe(text: str) -> str:
    """Return *text* less its decoration; empty where it is long or could hold a value."""
    bare = "".join(c if c.isprintable() else " " for c in text).strip(_DECORATION)
    if len(bare) > _MAX_COMMENT or next(find_values(bare), None) is not None:
        return ""
    return "" if looks_like_secret("comment", bare) else bare
