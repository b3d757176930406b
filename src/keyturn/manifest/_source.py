"""From bytes to a TOML document, with a bound on everything before it is parsed."""

from __future__ import annotations

import re
import tomllib
from typing import NoReturn

from keyturn.errors import ManifestError, Problem
from keyturn.manifest._lines import MAX_KEY_PARTS, LineIndex

__all__ = ["MAX_SIZE_BYTES", "decode", "parse"]

MAX_SIZE_BYTES = 1_048_576
# A line with more dots than this is looked at before tomllib is: a key of ten
# thousand parts would keep it busy for minutes.
_MANY_DOTS = 48
_PLACE = re.compile(r" ?\(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)")
_BYTE_ORDER_MARK = "\ufeff"


def decode(content: bytes, file: str) -> str:
    """
    Return *content* as text without its byte order mark.

    Raises:
        ManifestError: It is larger than 1 MiB or not UTF-8.
    """
    if len(content) > MAX_SIZE_BYTES:
        _refuse(file, None, "is larger than 1 MiB", "split the project, or see what fills it")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        # The error would carry the bytes.
        problem = _problem(file, line, "is not UTF-8", "save it as UTF-8")
        raise ManifestError([problem], hint=f"save `{file}` as UTF-8") from None
    return text.removeprefix(_BYTE_ORDER_MARK)


def parse(source: str, file: str) -> dict[str, object]:
    """
    Return the TOML document *source*.

    Raises:
        ManifestError: It is not TOML, or nests or dots deeper than a manifest can.
    """
    if any(line.count(".") > _MANY_DOTS for line in source.split("\n")):
        index = LineIndex.scan(source)
        if index.too_deep is not None:
            message = f"a key has more than {MAX_KEY_PARTS} parts, or a value nests too deep"
            _refuse(file, index.too_deep, message, "write fewer dots")
    try:
        return tomllib.loads(source)
    except RecursionError:
        line = LineIndex.scan(source).too_deep
        problem = _problem(file, line, "a value nests too deep", "remove the nested lists")
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_problem(str(error), file, source)
    except ValueError:
        # A number with thousands of digits, or a date that no calendar has.
        problem = _problem(file, None, "a number or date cannot be read", "correct it")
    raise ManifestError([problem], hint=f"correct `{file}` and run the command again") from None


def _syntax_problem(words: str, file: str, source: str) -> Problem:
    place = _PLACE.search(words)
    line = column = None
    if place is not None:
        words = words[: place.start()]
        line = int(place[1]) if place[1] else source.count("\n") + 1
        column = int(place[2]) if place[2] else None
    # The parser's words name at most a key or one character, never a value.
    words = "".join(c if c.isprintable() else "?" for c in words)[:200]
    return _problem(
        file, line, f"is not TOML: {words[:1].lower()}{words[1:]}", _advice(words), column=column
    )


def _advice(words: str) -> str:
    if "overwrite" in words or "twice" in words or "Duplicate" in words or "declare" in words:
        return "it stands there twice: keep one"
    return "a text needs quotes, a key needs ` = `, a list needs commas"


def _problem(
    file: str, line: int | None, message: str, fix: str, *, column: int | None = None
) -> Problem:
    return Problem(file=file, line=line, key="", message=message, fix=fix, column=column)


def _refuse(file: str, line: int | None, message: str, fix: str) -> NoReturn:
    raise ManifestError([_problem(file, line, message, fix)], hint=f"correct `{file}`")
