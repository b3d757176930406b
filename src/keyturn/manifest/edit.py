"""
Edits of a manifest that keep its comments, its order and its spelling.

Every edit is checked against the same edit of the plain data before it is returned:
a result that says anything else than was asked is never handed out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import TypeAlias, cast

from keyturn.errors import Conflict, InternalError, NotFound, UsageError
from keyturn.manifest._lines import LineIndex
from keyturn.manifest._source import decode, parse

__all__ = ["TomlValue", "add_lines", "add_secret", "remove", "set_key"]

TomlValue: TypeAlias = "str | int | bool | Sequence[str] | Mapping[str, TomlValue]"
_Tree: TypeAlias = MutableMapping[str, object]
_Make: TypeAlias = "Callable[[str, TomlValue], object]"
_FILE = "keyturn.toml"
# Tables that read better on the line of their key than under a header.
_INLINE = frozenset({"fields", "generate", "identity"})
_CONFIG_HEADER = re.compile(r"""[ \t]*\[[ \t]*(["']?)config\1[ \t]*\]""")
# A setting that is written over more lines than this has no place found behind it.
_MAX_LINES = 200


def set_key(text: str, path: str | Sequence[str], value: TomlValue) -> str:
    """
    Return *text* with *value* at *path*; tables on the way are made where they lack.

    Args:
        path: `secrets.db.max_age`, or its parts where one has a dot in it.

    Raises:
        ManifestError: *text* is not TOML.
        UsageError: *path* leads through something that is not a table.
    """
    parts = _parts(path)

    def change(tree: _Tree, make: _Make) -> None:
        table = tree
        for part in parts[:-1]:
            if part not in table:
                table[part] = make(part, {})
            table = _table_in(table, part, parts)
        table[parts[-1]] = make(parts[-1], value)

    return _edited(text, change)


def add_secret(text: str, name: str, settings: Mapping[str, TomlValue]) -> str:
    """
    Return *text* with `[secrets.NAME]` at its end, saying *settings*.

    Raises:
        Conflict: The secret is there already.
        ManifestError: *text* is not TOML.
    """
    secrets = parse(_decoded(text), _FILE).get("secrets")
    if isinstance(secrets, dict) and name in secrets:
        raise Conflict(
            f"the manifest has a secret `{name}` already",
            hint=f"edit `[secrets.{name}]`, or choose another name",
        )
    return set_key(text, ("secrets", name), settings)


def add_lines(text: str, *, settings: Sequence[str], tables: Sequence[str]) -> str:
    """
    Return *text* with more lines of TOML in it, comments and all; what is there stays as it is.

    Args:
        settings: Put behind the last setting of `[config]`.
        tables: Whole tables such as `[secrets.NAME]`, put at the end.

    Raises:
        ManifestError: *text* is not TOML.
        UsageError: *text* says already what the lines say, or is written so that they
            find no place in it.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    bare = _decoded(text)
    expected = parse(bare, _FILE)
    _merge(expected, parse("\n".join(["[config]", *settings]), _FILE) if settings else {})
    _merge(expected, parse("\n".join(tables), _FILE))
    for candidate in _places(bare, settings, tables):
        if _reparsed(candidate) == expected:
            return mark + candidate
    raise UsageError(
        "keyturn.toml is written so that nothing can be added to it",
        hint="write `[config]` and `[secrets.NAME]` as tables with headers",
    )


def _merge(tree: dict[str, object], more: Mapping[str, object]) -> None:
    for name, table in more.items():
        present = tree.setdefault(name, {})
        if not isinstance(present, dict) or not isinstance(table, dict) or present.keys() & table:
            raise UsageError(
                f"what is to be added under `{name}` is there already",
                hint="nothing was changed; add it by hand",
            )
        tree[name] = {**present, **table}


def _places(text: str, settings: Sequence[str], tables: Sequence[str]) -> Iterator[str]:
    """Yield *text* with the lines where they read best, then where else they may stand."""
    lines = text.split("\n")
    # Lines keep the `\r` that they end in, and new ones get what the others have.
    ending = "\r" if lines[0].endswith("\r") else ""
    added, rest = ([f"{line}{ending}" for line in part] for part in (settings, tables))
    if lines[-1] == "":
        lines.pop()
    else:
        lines[-1] += ending
    at = _behind_settings(text, lines) if settings else len(lines)
    if at is not None:
        yield "\n".join([*lines[:at], *added, *lines[at:], *rest, ""])
    yield "\n".join([*lines, ending, f"[config]{ending}", *added, *rest, ""])


def _behind_settings(text: str, lines: Sequence[str]) -> int | None:
    """Return how many lines there are up to the end of `[config]`'s last setting."""
    index = LineIndex.scan(text)
    header = index.lines.get(("config",))
    if header is None or _CONFIG_HEADER.match(lines[header - 1]) is None:
        return None
    last = max(
        (
            line
            for path, line in index.lines.items()
            # The header of `[config.NAME]` is no line of `[config]`.
            if len(path) == len(("config", "NAME"))
            and path[0] == "config"
            and not _is_header(lines[line - 1])
        ),
        default=header,
    )
    if last == header:
        return header
    for end in range(last, min(len(lines), last + _MAX_LINES) + 1):
        if _reparsed("\n".join([*lines[last - 1 : end], ""])) is not None:
            return end
    return None


def _is_header(line: str) -> bool:
    return line.lstrip().startswith("[")


def remove(text: str, path: str | Sequence[str]) -> str:
    """
    Return *text* without the key or table at *path* and the comments inside it.

    Raises:
        NotFound: Nothing is there.
        ManifestError: *text* is not TOML.
    """
    parts = _parts(path)

    def change(tree: _Tree, _: _Make) -> None:
        table = tree
        for part in parts[:-1]:
            table = _table_in(table, part, parts) if part in table else {}
        if parts[-1] not in table:
            raise NotFound(
                f"the manifest has no `{'.'.join(parts)}`", hint="look for its name in the file"
            )
        del table[parts[-1]]

    return _edited(text, change, emptied=parts[:-1])


def _parts(path: str | Sequence[str]) -> tuple[str, ...]:
    parts = tuple(path.split(".")) if isinstance(path, str) else tuple(path)
    if not parts or not all(parts):
        raise UsageError("a path needs a name between its dots", hint="write `secrets.db.max_age`")
    return parts


def _table_in(table: _Tree, part: str, parts: tuple[str, ...]) -> _Tree:
    inner = table[part]
    if not isinstance(inner, MutableMapping):
        raise UsageError(
            f"`{'.'.join(parts)}` leads through `{part}`, which is not a table",
            hint="remove that key first",
        )
    return cast("_Tree", inner)


def _decoded(text: str) -> str:
    return decode(text.encode("utf-8", "surrogatepass"), _FILE)


def _edited(
    text: str, change: Callable[[_Tree, _Make], None], *, emptied: tuple[str, ...] = ()
) -> str:
    """
    Return *text* after *change*.

    Args:
        emptied: Path of a table that goes too where nothing is left in it.
    """
    # The plain parser goes first: its bounds and its words are the loader's.
    expected = parse(_decoded(text), _FILE)
    change(expected, _plain)

    # tomlkit takes a tenth of a second to import, and only edits need it.
    import tomlkit

    # It takes a byte order mark for a key.
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    document = tomlkit.parse(text.removeprefix(mark))
    change(cast("_Tree", document), _item)
    result = mark + tomlkit.dumps(document)
    found = _reparsed(result)
    if found not in (expected, _pruned(expected, emptied)):
        raise InternalError(
            "an edit of the manifest came out otherwise than asked, so it was not made",
            hint="make the edit by hand",
        )
    return result


def _reparsed(text: str) -> dict[str, object] | None:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        return None


def _pruned(tree: Mapping[str, object], path: tuple[str, ...]) -> dict[str, object]:
    """Return *tree* less the tables along *path* that have nothing in them."""
    pruned = dict(tree)
    inner = pruned.get(path[0]) if path else None
    if isinstance(inner, dict):
        rest = _pruned(inner, path[1:])
        pruned[path[0]] = rest
        if not rest:
            del pruned[path[0]]
    return pruned


def _plain(_key: str, value: TomlValue) -> object:
    if isinstance(value, Mapping):
        return {name: _plain(name, item) for name, item in value.items()}
    if isinstance(value, str | int):
        return value
    return list(value)


def _item(key: str, value: TomlValue) -> object:
    import tomlkit

    if not isinstance(value, Mapping):
        return tomlkit.item(_plain(key, value))
    table = tomlkit.inline_table() if _is_inline(key) else tomlkit.table()
    # Plain keys before tables: what follows a table's header belongs to it.
    for name, item in sorted(value.items(), key=lambda pair: _has_header(*pair)):
        table.add(name, _item(name, item))
    return table


def _has_header(key: str, value: TomlValue) -> bool:
    return isinstance(value, Mapping) and not _is_inline(key)


def _is_inline(key: str) -> bool:
    # A setting's values for each environment read best on the setting's own line.
    return key in _INLINE or key.isupper()
