"""
Writing variables in each format, so that what reads them back gets the same bytes.

`dotenv`: one `NAME=value` a line. Quoted so that `set -a; . file` in any POSIX
shell gives back every value exactly. Other readers have rules that contradict the
shell's, and differ for a few values:

    systemd           `EnvironmentFile=` leaves out values that are not UTF-8 or
                      hold control characters other than tab and newline
    python-dotenv     puts something else in place of `${NAME}` unless called with
                      `interpolate=False`; a value that has a single quote, two
                      backslashes or one at its end, and also a `$` or a backtick,
                      keeps the backslash before these; a carriage return becomes
                      a newline
    docker compose    may stumble over quotes and backslashes at either end of a value
    docker run        takes the quotes for part of the value: use `json` or `files`

What Keyturn generates has none of these characters. `json`: one object of strings.
`shell`: `export NAME='value'`, for sourcing. `files`: a file for each variable,
named as the variable, holding the bytes and nothing else.

Every format also carries `KEYTURN_VERSIONS`, and is sorted by name, so that equal
values give equal bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from keyturn.core.ids import SecretName, VariableName, is_variable_name
from keyturn.core.value import SecretValue
from keyturn.deliver.environment import VERSIONS_VARIABLE, versions_text
from keyturn.deliver.model import Format, Rendering
from keyturn.errors import DeliveryError

__all__ = ["render"]

# Means itself to every reader, in any place of a value.
_PLAIN = re.compile(rb"[A-Za-z0-9_@%+:,./=-]+")
_DOUBLE_QUOTE_SPECIAL = re.compile(rb'([\\"$`])')


def render(
    form: Format,
    variables: Mapping[VariableName, SecretValue],
    versions: Mapping[SecretName, int],
) -> Rendering:
    """
    Return *variables* and `KEYTURN_VERSIONS` as *form* writes them.

    Raises:
        DeliveryError: The format cannot carry one of them; tells its name only.
    """
    entries = _entries(variables, versions)
    match form:
        case Format.DOTENV:
            return _lines(entries, form, b"%s=%s\n", _dotenv_quoted)
        case Format.SHELL:
            return _lines(entries, form, b"export %s=%s\n", _shell_quoted)
        case Format.JSON:
            return _json(entries)
        case Format.FILES:
            return entries


def _entries(
    variables: Mapping[VariableName, SecretValue], versions: Mapping[SecretName, int]
) -> dict[str, SecretValue]:
    entries: dict[str, SecretValue] = {}
    for name in sorted(variables):
        # A name is written unquoted, and becomes a file's name.
        if not is_variable_name(name) or name == VERSIONS_VARIABLE:
            raise DeliveryError(
                f"{ascii(name)[:80]} cannot name a variable",
                hint="use letters, digits and `_`, not starting with a digit",
                code="delivery.name",
            )
        entries[name] = variables[name]
    entries[VERSIONS_VARIABLE] = SecretValue.from_text(versions_text(versions))
    return dict(sorted(entries.items()))


def _lines(
    entries: Mapping[str, SecretValue],
    form: Format,
    template: bytes,
    quoted: Callable[[bytes], bytes],
) -> SecretValue:
    lines = []
    for name, value in entries.items():
        raw = value.reveal()
        if b"\0" in raw:
            raise _refused(name, form, "a NUL byte", "store it in base64")
        lines.append(template % (name.encode("ascii"), quoted(raw)))
    return SecretValue(b"".join(lines))


def _json(entries: Mapping[str, SecretValue]) -> SecretValue:
    texts = {}
    for name, value in entries.items():
        try:
            texts[name] = value.reveal_text()
        except ValueError:
            raise _refused(
                name, Format.JSON, "bytes that are not UTF-8", "store it in base64"
            ) from None
    return SecretValue.from_text(json.dumps(texts, indent=2) + "\n")


def _shell_quoted(raw: bytes) -> bytes:
    return b"'" + raw.replace(b"'", b"'\\''") + b"'"


def _dotenv_quoted(raw: bytes) -> bytes:
    if _PLAIN.fullmatch(raw):
        return raw
    # Single quotes mean the same to all, but no quote fits between them, and some
    # readers take `\\` or a final `\` there for an escape.
    if b"'" not in raw and b"\\\\" not in raw and not raw.endswith(b"\\"):
        return b"'" + raw + b"'"
    return b'"' + _DOUBLE_QUOTE_SPECIAL.sub(rb"\\\1", raw) + b'"'


def _refused(name: str, form: Format, what: str, instead: str) -> DeliveryError:
    return DeliveryError(
        f"the value for `{name}` holds {what}, which the format `{form}` cannot carry",
        hint=f'{instead}, or deliver with `format = "files"`',
        code="delivery.format",
    )
