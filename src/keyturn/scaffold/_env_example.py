"""
`.env.example`: every variable that the manifest declares, with placeholders.

The file may be people's own: only what stands between the two marks is generated, and
only for variables that the rest does not have. So a hand-written example that has them
all stays as it is, to the byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keyturn.core.ids import EnvironmentName, VariableName
from keyturn.manifest import Manifest, Secret, parse_env
from keyturn.scaffold._model import MARK, Family, File
from keyturn.scaffold._words import comment

__all__ = ["files"]

_PATH = ".env.example"
_BEGIN = f'# >>> {MARK}; "keyturn scaffold --check" verifies it'
_END = "# <<< end of what keyturn generates"
_PLACEHOLDER = "changeme"
_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=-]*", re.ASCII)
# What a reader of such files would take for an entry that is commented out.
_LIKE_AN_ENTRY = re.compile(r"(?:export[ \t]+)?[A-Za-z_][A-Za-z0-9_]*[ \t]*=")


def files(manifest: Manifest, existing: str | None) -> list[File]:
    """Return the example; *existing* is what it says now."""
    before, after = _split(existing or "") or (existing or "", "")
    own = parse_env(f"{before}\n{after}".encode("utf-8", "surrogateescape"), file=_PATH)
    present = {entry.name for entry in own.entries}
    lines = list(_entries(manifest, present))
    block = "\n".join([_BEGIN, *lines, "", _END]) if lines else ""
    if not block and _split(existing or "") is None:
        text = existing
    else:
        parts = (before.rstrip("\n"), block, after.strip("\n"))
        text = "\n\n".join(part for part in parts if part) + "\n"
    return [File(Family.ENV_EXAMPLE, _PATH, text, shared=True)]


def _split(text: str) -> tuple[str, str] | None:
    """Return what people wrote before and behind the generated part; None without one."""
    head, begin, rest = text.partition(_BEGIN + "\n")
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        # Of a part without its end nobody knows where it ends: all of it is people's.
        return None
    return head, tail.removeprefix("\n")


def _entries(manifest: Manifest, present: set[VariableName]) -> Iterator[str]:
    where = _example_environment(manifest)
    for name in manifest.config:
        if name not in present:
            yield from _setting(manifest, name, where)
    for secret in manifest.secrets.values():
        fresh = [name for name in secret.variables if name not in present]
        if fresh:
            yield ""
            yield _said(secret)
        for name in fresh:
            mark = "" if secret.required else "# "
            yield f"{mark}{name}={_placeholder(secret, name)}"


def _example_environment(manifest: Manifest) -> EnvironmentName:
    unprotected = [name for name, each in manifest.environments.items() if not each.protected]
    return (unprotected or list(manifest.environments))[0]


def _setting(manifest: Manifest, name: VariableName, where: EnvironmentName) -> Iterator[str]:
    values = manifest.config[name]
    text = values.get(where, next(iter(values.values()), ""))
    written = _quoted(text)
    if written is None:
        yield "# its text stands in keyturn.toml: it does not fit on a line here"
    yield f"{name}={written or ''}"


def _quoted(text: str) -> str | None:
    """Return *text* so that all readers of such files agree on it; None where no form does."""
    if _BARE.fullmatch(text):
        return text
    if not text.isprintable() or "\\" in text:
        return None
    if "'" not in text:
        return f"'{text}'"
    return None if re.search(r'["$`]', text) else f'"{text}"'


def _said(secret: Secret) -> str:
    words = comment(secret.purpose) or secret.spec.summary
    if _LIKE_AN_ENTRY.match(words):
        words = f"- {words}"
    return f"# {words}" if secret.required else f"# {words} (optional)"


def _placeholder(secret: Secret, name: VariableName) -> str:
    return _quoted(secret.identity.get(secret.variables[name], "")) or _PLACEHOLDER
