r"""
Reading `.env` files as they are found in the wild.

The form, as this parser reads it:

    # comment                      kept, for whoever drafts a manifest from it
    NAME=text   # comment          a `#` after a space ends the text; `a#b` is text
    export NAME = text             spaces around `=`, and `export`, are allowed
    NAME='text'                    as it stands, over several lines too; \' is a quote
    NAME="text\n"                  \n \r \t \f \b \" \\ \$ \` \uXXXX are escapes here only
    # NAME=text                    an entry that is commented out
    NAME=                          an empty value

Nothing is interpolated: `$` stays `$`, so that a password with one in it is taken as
it is; an entry says where other readers would have put something in its place. A line
that cannot be read becomes a problem with its number, never its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from keyturn.core.ids import VariableName, is_variable_name
from keyturn.core.value import SecretValue
from keyturn.errors import Problem, UsageError

__all__ = ["EnvEntry", "EnvFile", "parse_env"]

MAX_SIZE_BYTES = 1_048_576
_MAX_PROBLEMS = 100
_MAX_COMMENT = 500
_NO_EQUALS = "there is no `=` in it"

_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[^=\s#'\"]*)[ \t]*=[ \t]*")
# In a comment only a name in capitals counts: prose has `a = b` in it.
_COMMENTED_OUT = re.compile(r"[ \t]*#[# \t]*(?=(?:export[ \t]+)?[A-Z_][A-Z0-9_]+[ \t]?=)")
_BARE = re.compile(r"[^\n]*")
_INLINE_COMMENT = re.compile(r"[ \t]#.*")
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]++|\\'|\\)*+)'")
# `'C:\dir\'` ends in what would else be an escaped quote.
_SINGLE_QUOTED_LITERALLY = re.compile(r"'([^'\n]*)'(?=[ \t]*(?:#|\n|\Z))")
_REFERENCE = re.compile(r"\$\{?[A-Za-z_]")
_UNESCAPED_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*+\$\{?[A-Za-z_]")
# A comment right above an entry that is yet meant for all that follow.
_GROUP = re.compile(
    r"\W*optional(?: (?:features|integrations|keys|providers|secrets|services|settings|values"
    r"|variables))?\W*",
    re.IGNORECASE,
)
_AFTER_QUOTE = re.compile(r"[ \t]*(?:(?<=[ \t])#(?P<note>[^\n]*))?(?=\n|\Z)")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "b": "\b", "\n": ""} | {
    c: c for c in "\"\\$`'"
}


@dataclass(frozen=True, slots=True)
class EnvEntry:
    """
    One variable of a `.env` file.

    Args:
        line: Where it starts.
        comments: The comment lines right above it, without their `#`.
        heading: The last comment above it, blank lines or other entries between.
        note: The comment on its own line.
        commented_out: It stands behind a `#`.
        quoted: Its value was in quotes.
        interpolates: Other readers would put something in the place of a `$NAME` in it.
        section: The headings that it stands under: comments that are ruled off, or stand
            apart from what follows.
    """

    name: VariableName
    value: SecretValue
    line: int
    comments: tuple[str, ...] = field(default=(), repr=False)
    heading: tuple[str, ...] = field(default=(), repr=False)
    note: str = field(default="", repr=False)
    commented_out: bool = False
    quoted: bool = False
    interpolates: bool = False
    section: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class EnvFile:
    """
    What a `.env` file says.

    Args:
        entries: In file order; of a name that is set twice only the last.
        problems: What was passed over, by line.
        replaced: The entries that a later one of the same name took the place of.
        remarks: Every comment with its line, those that hold an entry too.
    """

    file: str
    entries: tuple[EnvEntry, ...]
    problems: tuple[Problem, ...]
    replaced: tuple[EnvEntry, ...] = ()
    remarks: tuple[tuple[int, str], ...] = field(default=(), repr=False)

    @property
    def live(self) -> tuple[EnvEntry, ...]:
        """The entries that are not commented out."""
        return tuple(entry for entry in self.entries if not entry.commented_out)

    @property
    def unread(self) -> tuple[Problem, ...]:
        """The problems of lines of which nothing was read."""
        read = {entry.line for entry in (*self.entries, *self.replaced)}
        return tuple(problem for problem in self.problems if problem.line not in read)

    @property
    def lost(self) -> tuple[Problem, ...]:
        """Those of the lines that were to set a variable, which a program would miss."""
        return tuple(problem for problem in self.unread if problem.message != _NO_EQUALS)


def parse_env(data: bytes, *, file: str) -> EnvFile:
    """
    Return what the `.env` file *data* says; faults of single lines are problems in it.

    Args:
        file: Its name, for messages.

    Raises:
        UsageError: It is larger than 1 MiB, or not text at all.
    """
    if len(data) > MAX_SIZE_BYTES:
        raise UsageError(
            f"`{file}` is larger than 1 MiB",
            hint="is it a `.env` file? split it if so",
            code="usage.env_file",
        )
    if b"\x00" in data:
        line = data.count(b"\n", 0, data.index(b"\x00")) + 1
        raise UsageError(
            f"`{file}` is not text: there is a NUL byte on line {line}",
            hint="save it as UTF-8; a file that Windows calls Unicode is UTF-16",
            code="usage.env_file",
        )
    # Bytes that are not UTF-8 survive as surrogates, so that one bad line stays one.
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    reader = _Reader(text.replace("\r\n", "\n"), file)
    reader.read()
    kept, replaced = reader.kept()
    return EnvFile(file, kept, tuple(reader.problems), replaced, tuple(reader.remarks))


@dataclass(slots=True)
class _Reader:
    """The state of one reading."""

    text: str
    file: str
    position: int = 0
    line: int = 1
    entries: list[EnvEntry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    remarks: list[tuple[int, str]] = field(default_factory=list)
    heading: tuple[str, ...] = ()
    heading_used: bool = False
    ruled: bool = False
    section: tuple[str, ...] = ()
    subsection: tuple[str, ...] = ()

    def read(self) -> None:
        while self.position < len(self.text) and len(self.problems) < _MAX_PROBLEMS:
            end = self._line_end(self.position)
            line = self.text[self.position : end].strip()
            if not line:
                self._end_comments(apart=True)
                if self.heading_used:
                    self.heading = self.subsection = ()
                self._advance(end)
            elif line.startswith("#"):
                self._comment(end)
            else:
                self._assignment(self.position, end, commented_out=False)

    def kept(self) -> tuple[tuple[EnvEntry, ...], tuple[EnvEntry, ...]]:
        """Return the entries that count, and those that a later one of the same name replaces."""
        last: dict[tuple[str, bool], int] = {}
        for position, entry in enumerate(self.entries):
            key = (entry.name, entry.commented_out)
            if key in last and not entry.commented_out:
                first = self.entries[last[key]].line
                message = f"it is set on line {first} already; this one counts"
                self._problem(entry.line, entry.name, message, "remove one of them")
            last[key] = position
        self.problems.sort(key=lambda problem: problem.line or 0)
        if self.position < len(self.text):
            message = f"more than {_MAX_PROBLEMS} problems: the rest was not looked at"
            self.problems.append(
                Problem(
                    file=self.file,
                    line=self.line,
                    key="",
                    message=message,
                    fix="is it a `.env` file? correct these first",
                )
            )
        counting = set(last.values())
        numbered = tuple(enumerate(self.entries))
        return (
            tuple(entry for position, entry in numbered if position in counting),
            tuple(entry for position, entry in numbered if position not in counting),
        )

    def _comment(self, end: int) -> None:
        self.remarks.append((self.line, self.text[self.position : end]))
        match = _COMMENTED_OUT.match(self.text, self.position, end)
        if match is not None:
            self._assignment(match.end(), end, commented_out=True)
            return
        words = self.text[self.position : end].strip().lstrip("#").strip()
        if not self.comments:
            self.heading, self.heading_used = (), False
        if _is_ruled(self.text[self.position : end].strip()):
            self.ruled = True
        if words and _is_utf8(words):
            self.comments.append(words[:_MAX_COMMENT])
            self.heading = tuple(self.comments)
        self._advance(end)

    def _end_comments(self, *, apart: bool) -> None:
        """Take the comments that end here for a heading, where they look like one."""
        block = tuple(self.comments)
        if self.ruled:
            self.section, self.subsection = block, ()
        elif block and (apart or _GROUP.fullmatch(" ".join(block))):
            self.subsection = block
        elif block:
            self.subsection = ()
        self.ruled = False
        self.comments.clear()

    def _assignment(self, start: int, end: int, *, commented_out: bool) -> None:
        match = _ASSIGNMENT.match(self.text, start, end)
        name = match["name"] if match is not None else ""
        if match is None or not is_variable_name(name):
            if not commented_out:
                self._refuse_line(has_name=match is not None)
            self._advance(end)
            return
        found = self._value(name, match.end(), end, end if commented_out else len(self.text))
        if found is None:
            self._advance(end)
            return
        value, note, quote, after = found
        if note and not commented_out:
            self.remarks.append((self.line, note))
        comments = tuple(self.comments)
        self._end_comments(apart=False)
        if _is_utf8(value):
            raw = self.text[match.end() : after]
            entry = EnvEntry(
                VariableName(name),
                SecretValue.from_text(value),
                self.line,
                comments,
                self.heading,
                note if _is_utf8(note) else "",
                commented_out,
                quoted=bool(quote),
                interpolates=_interpolates(value, raw, quote),
                section=(*self.section, *self.subsection),
            )
            self.entries.append(entry)
        else:
            self._problem(self.line, name, "its value is not UTF-8", "save the file as UTF-8")
        self.heading_used = True
        self._advance(after)

    def _value(
        self, name: str, start: int, end: int, stop: int
    ) -> tuple[str, str, str, int] | None:
        """Return (value, note, its quote, where it ends); None where a problem was told."""
        quote = self.text[start : start + 1] if start < end else ""
        if quote not in {'"', "'"}:
            # From one before, so that a `#` right behind `=` is told from one after a space.
            comment = _INLINE_COMMENT.search(self.text, start - 1, end)
            if comment is None:
                return self.text[start:end].strip(), "", "", end
            bare = self.text[start : max(start, comment.start())]
            return bare.strip(), comment[0].strip("# \t"), "", end
        pattern = _DOUBLE_QUOTED if quote == '"' else _SINGLE_QUOTED
        match = pattern.match(self.text, start, stop)
        if match is None and quote == "'":
            match = _SINGLE_QUOTED_LITERALLY.match(self.text, start, stop)
        if match is None:
            self._problem(self.line, name, f"its {quote} is never closed", f"close it with {quote}")
            return None
        after = _AFTER_QUOTE.match(self.text, match.end(), stop)
        if after is None:
            self._problem(
                self.line,
                name,
                "there is more text after the closing quote",
                "remove it, or escape the quote inside the value",
            )
            return None
        value = _unescaped(match[1]) if quote == '"' else match[1].replace("\\'", "'")
        return value, (after["note"] or "").strip(), quote, after.end()

    def _refuse_line(self, *, has_name: bool) -> None:
        if has_name:
            message = "the name before `=` is not a variable name"
            self._problem(self.line, "", message, "use letters, digits and `_`")
        else:
            self._problem(self.line, "", _NO_EQUALS, "write `NAME=value`, or remove it")

    def _problem(self, line: int, name: str, message: str, fix: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(
                Problem(file=self.file, line=line, key=name, message=message, fix=fix)
            )

    def _line_end(self, position: int) -> int:
        end = self.text.find("\n", position)
        return len(self.text) if end < 0 else end

    def _advance(self, end: int) -> None:
        """Go on behind the line break at *end*."""
        self.line += self.text.count("\n", self.position, end + 1)
        self.position = end + 1


def _is_ruled(comment: str) -> bool:
    """Tell whether *comment* is, or has beside its words, a line drawn of signs."""
    words = comment.strip("# \t")
    ends = (words[:2], words[-2:])
    return comment.startswith("###") or any(end in {"--", "==", "**", "~~"} for end in ends)


def _interpolates(value: str, raw: str, quote: str) -> bool:
    if quote == '"':
        inside = _DOUBLE_QUOTED.match(raw)
        return inside is not None and _UNESCAPED_REFERENCE.search(inside[1]) is not None
    return not quote and _REFERENCE.search(value) is not None


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1] is None:
            return _ESCAPES.get(match[2], match[0])
        point = int(match[1], 16)
        # Half of a pair, or a NUL that no variable can hold, stays as it was written.
        return match[0] if point == 0 or not _is_utf8(chr(point)) else chr(point)

    return _ESCAPE.sub(character, text)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)
