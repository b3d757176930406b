"""
The Markdown of this repository, read the way its tests need it.

A guide's examples run. A comment before a fenced block says what is to become of it:

    <!-- test: NAME in WORLD -->       the block is a step of the test NAME, which begins in WORLD
    <!-- test: NAME -->                a further step
    <!-- test: NAME sql -->            the block is SQL for the world's superuser
    <!-- test: NAME file: PATH -->     the block is the content of a file
    <!-- test: NAME append: PATH -->   the block is added to a file
    <!-- test: NAME run: COMMAND -->   a step that the reader is not shown; has no block
    <!-- test: NAME sql: STATEMENT -->  the same for SQL
    <!-- manifest -->                  the block is a whole manifest, and must load
    <!-- fragment -->                  the block is a part of one, and must load with the rest

In a `console` block, lines after `$ ` are commands and the others their output, in which
`...` stands for anything; in a `sh` block every line is a command. A command ends with 0
unless its comment says `# exit N`.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WRITTEN = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
RUNNABLE = [ROOT / "README.md", *sorted((DOCS / "guides").rglob("*.md"))]

_COMMENT = re.compile(r"<!-- (.*?) -->")
_TEST = re.compile(
    r"test: (?P<name>[a-z0-9-]+)(?: in (?P<world>[a-z]+))?"
    r"(?: (?P<how>sql|file|append|run)(?:: (?P<what>.+))?)?"
)
_EXIT = re.compile(r"\s+# exit (\d+)$")


def tool(name):
    """Return the script `tools/NAME.py` as a module; it is no package of ours to import."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Block:
    """A fenced block, and what the comment before it says, if anything."""

    language: str
    text: str
    line: int
    said: str = ""


@dataclass(frozen=True)
class Step:
    """
    One thing to do.

    Args:
        how: `shell`, `sql`, `file` or `append`.
        what: The command, the statement, or the file's path.
        expected: Lines that it must show, in order.
    """

    line: int
    how: str
    what: str
    text: str = ""
    code: int = 0
    expected: tuple[str, ...] = ()


@dataclass
class Example:
    """The steps of one test, in the order in which a document has them."""

    document: Path
    name: str
    world: str = ""
    steps: list[Step] = field(default_factory=list)

    def __str__(self):
        return f"{self.document.stem}:{self.name}"


def parts(path):
    """Yield each comment that stands alone and each fenced block of a document, in order."""
    lines = path.read_text(encoding="utf-8").split("\n")
    said, at = "", 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            end = next(n for n in range(at + 1, len(lines)) if lines[n].rstrip() == "```")
            text = "\n".join(lines[at + 1 : end]) + "\n"
            yield Block(line[3:].strip(), text, at + 1, said)
            said, at = "", end
        elif match := _COMMENT.fullmatch(line.strip()):
            if re.search(r" (run|sql): ", match[1]):
                yield Block("", "", at + 1, match[1])
            else:
                said = match[1]
        elif line.strip():
            said = ""
        at += 1


def blocks(path, *, said=None, language=None):
    """Return the fenced blocks of a document that have this comment and this language."""
    return [
        part
        for part in parts(path)
        if part.language
        and (said is None or part.said == said)
        and (language is None or part.language == language)
    ]


def examples():
    """Return every example of the documents whose examples run."""
    found = {}
    for path in RUNNABLE:
        for part in parts(path):
            if not part.said.startswith("test: "):
                continue
            match = _TEST.fullmatch(part.said)
            assert match, f"{path.name}:{part.line}: `{part.said}` is not understood"
            example = found.setdefault((path, match["name"]), Example(path, match["name"]))
            example.world = example.world or match["world"] or ""
            example.steps += _steps(part, match["how"], match["what"])
    return list(found.values())


def _steps(part, how, what):
    if how == "run":
        return [Step(part.line, "shell", what)]
    if how == "sql":
        return [Step(part.line, "sql", what or part.text)]
    if how in {"file", "append"}:
        return [Step(part.line, how, what, part.text)]
    return list(_commands(part))


def _commands(part):
    shown = part.language == "console"
    commands = []
    for number, line in enumerate(part.text.split("\n"), part.line + 1):
        if shown and not line.startswith("$ "):
            if line:
                commands[-1][2].append(line)
        elif line.strip():
            commands.append((number, line.removeprefix("$ "), []))
    for number, command, expected in commands:
        match = _EXIT.search(command)
        text = command[: match.start()] if match else command
        code = int(match[1]) if match else 0
        yield Step(number, "shell", text, code=code, expected=tuple(expected))


def anchors(path):
    """Return the names that links into a document may end with."""
    found = set()
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.startswith("#"):
            words = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
            found.add(words.replace(" ", "-"))
    return found
