"""Free text of the manifest, made harmless for the language that it is written into."""

from __future__ import annotations

import json
import re

__all__ = ["code", "comment", "markdown", "plain", "unit_path", "unit_word", "yaml_word"]

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!~&])")
_MAX_SHOWN = 500


def plain(text: str) -> str:
    """Return *text* on one line, without anything that a terminal or a parser acts on."""
    return "".join(c if c.isprintable() else "?" for c in text.strip())[:_MAX_SHOWN]


def comment(text: str) -> str:
    r"""Return *text* for a comment; a `\` at its end would take the next line into it."""
    return plain(text).rstrip("\\ ")


def markdown(text: str) -> str:
    """Return *text* so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", plain(text))


def code(text: str) -> str:
    """Return *text* as code within a line of Markdown, in a table too."""
    shown = plain(text).replace("`", "'").replace("|", "\\|")
    return f"`{shown}`" if shown else "-"


def unit_path(text: str) -> str:
    """Return *text* as the whole value of a systemd setting that takes one path."""
    return text.replace("%", "%%")


def unit_word(text: str) -> str:
    """Return *text* as one word of a systemd setting that takes several."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if re.fullmatch(r"[A-Za-z0-9/._@+=,:%-]+", escaped) else f'"{escaped}"'


def yaml_word(text: str) -> str:
    """Return *text* as a quoted YAML scalar."""
    return json.dumps(plain(text), ensure_ascii=False)
