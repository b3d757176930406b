"""
Write the pages of `docs/reference/` again from the code that they describe.

    ./dev docs            write them
    ./dev docs --check    say which are not as they would be written; exit 1

The same code gives the same bytes: nothing here depends on time, machine or terminal.
"""  # noqa: INP001 - a script, and no package

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import click

from keyturn import errors
from keyturn.audit import Action, Outcome
from keyturn.cli.commands import VERBS
from keyturn.cli.exits import MEANINGS, exit_of
from keyturn.cli.main import root
from keyturn.manifest import KINDS, KindSpec, format_duration, json_schema
from keyturn.manifest.keys import manifest_table
from keyturn.manifest.shapes import Choice, Flag, ListOf, MapOf, Number, Shape, Table, Text

__all__ = ["FOLDER", "PACKAGE", "main", "pages"]

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "keyturn"
FOLDER = ROOT / "docs" / "reference"

_NOTICE = "<!-- Written by `./dev docs`. Changes belong into the code that this describes. -->"
# What a map's key stands for in the name of a section: at the top, and within a secret.
_PLACEHOLDERS = ("NAME", "ENVIRONMENT")


def pages() -> dict[str, str]:
    """Return every page of the reference by its file name."""
    makers: list[tuple[str, str, Callable[[], str]]] = [
        ("commands.md", "every command, its options and examples", _commands),
        ("manifest.md", "every section and key of `keyturn.toml`", _manifest),
        ("kinds.md", "every kind of secret and its defaults", _kinds),
        ("exit-codes.md", "what a command's end means", _exit_codes),
        ("errors.md", "every family and code of error", _errors),
        ("audit-actions.md", "everything that can be recorded", _audit_actions),
        ("environment.md", "the variables that Keyturn reads and sets", _environment),
    ]
    made = {name: _finished(make()) for name, _, make in makers}
    made["keyturn.schema.json"] = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    rows = [(f"[{name}]({name})", holds) for name, holds, _ in makers]
    rows.append(("[keyturn.schema.json](keyturn.schema.json)", "JSON Schema of the manifest"))
    made["README.md"] = _finished(_page("# Reference", _table(["page", "holds"], rows)))
    return dict(sorted(made.items()))


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with `--check` compare them; return the exit code."""
    made = pages()
    there = {path.name for path in FOLDER.iterdir()} if FOLDER.is_dir() else set()
    stale = [name for name, text in made.items() if _present(FOLDER / name) != text]
    surplus = sorted(there - made.keys())
    if list(arguments) == ["--check"]:
        for name in (*stale, *surplus):
            sys.stderr.write(f"docs/reference/{name} is not what `./dev docs` writes\n")
        return 1 if stale or surplus else 0
    if arguments:
        sys.stderr.write("error: the only argument is `--check`\n")
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(made[name], encoding="utf-8")
        sys.stderr.write(f"docs/reference/{name}\n")
    for name in surplus:
        sys.stderr.write(f"docs/reference/{name} is not written by this: remove it\n")
    return 1 if surplus else 0


def _present(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _finished(text: str) -> str:
    title, _, rest = text.strip().partition("\n")
    return f"{title}\n\n{_NOTICE}\n{rest}\n"


# ---------------------------------------------------------------- building blocks


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(content: object) -> str:
    return str(content).replace("|", "\\|").replace("\n", " ")


def _code(text: object) -> str:
    return f"`{text}`"


def _page(*parts: str) -> str:
    return "\n\n".join(parts)


def _prose(text: str) -> str:
    """Return *text* as one paragraph on one line."""
    return " ".join(text.split())


def _paragraphs(text: str) -> str:
    """Return the docstring of a command as Markdown; click's literal blocks become code."""
    made = []
    for block in inspect.cleandoc(text).split("\n\n"):
        lines = block.split("\n")
        if lines[0] != "\b":
            made.append(" ".join(lines))
            continue
        made.append("\n".join(("```sh", *(line.strip() for line in lines[2:]), "```")))
    return "\n\n".join(made)


# ---------------------------------------------------------------- commands


def _commands() -> str:
    parts = [
        "# Commands",
        _prose("""
        What each command takes, as `keyturn COMMAND --help` says it. Results go to standard
        output, talk to standard error. A value is never taken from the command line. [Exit
        codes](exit-codes.md) are the same everywhere; [environment variables](environment.md) are
        few.
        """),
        "```text\n" + _help(root, "keyturn") + "\n```",
    ]
    for name in VERBS:
        command = root.get_command(click.Context(root), name)
        if command is not None:
            parts += _command(command, f"keyturn {name}", "##")
    return _page(*parts)


def _help(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path, terminal_width=100, **command.context_settings)
    return command.get_help(context)


def _command(command: click.Command, path: str, level: str) -> Iterator[str]:
    # Its parent gives it `-h`.
    context = click.Context(command, parent=click.Context(root, **root.context_settings))
    yield f"{level} `{path}`"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{path} {usage}\n```"
    yield _paragraphs(command.help or "")
    examples = getattr(command, "examples", "")
    if examples:
        yield f"```sh\n{examples}\n```"
    rows = [
        _option(option)
        for option in command.get_params(context)
        if isinstance(option, click.Option)
    ]
    yield _table(["option", "meaning"], rows)
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _command(inner, f"{path} {name}", f"{level}#")


def _option(option: click.Option) -> list[str]:
    names = "/".join([*option.opts, *option.secondary_opts])
    if not option.is_flag and not option.count:
        names += f" {option.make_metavar(click.Context(root))}"
    meaning = option.help or ""
    if option.show_default and option.default is not None and not callable(option.default):
        meaning = f"{meaning} Default: {option.default}.".strip()
    return [_code(names), meaning]


# ---------------------------------------------------------------- manifest


def _manifest() -> str:
    parts = [
        "# keyturn.toml",
        _prose("""
        Every section and key of the manifest. [The guide](../guides/manifest.md) explains them by
        example. [keyturn.schema.json](keyturn.schema.json) is the same for editors. A key that is
        not here is an error.
        """),
        _prose("""
        A duration is a number and a unit: `s`, `m`, `h`, `d` or `w`. `${NAME}` in a text of
        `target`, `render`, `reload` (but not in `command`) and `health` takes the plain setting
        `NAME` of the environment.
        """),
    ]
    for path, table in _sections(manifest_table(), ""):
        parts.append(f"## `[{path}]`")
        rows = [
            [
                _code(key.name),
                _form(key.shape),
                "required" if key.required else _default(key.default),
                key.doc,
            ]
            for key in table.keys
            if not isinstance(key.shape, Table) and not _holds_tables(key.shape)
        ]
        parts.append(_table(["key", "form", "default", "meaning"], rows) if rows else "")
        if table.one_of:
            parts.append("Exactly one of: " + ", ".join(map(_code, table.one_of)) + ".")
        parts += [f"`{name}` needs `{other}` beside it." for name, other in table.together]
    config = next(key for key in manifest_table().keys if key.name == "config")
    parts.append("## `[config]`")
    parts.append(
        f"{config.doc} The key is a variable's name. The value is {config.shape.item.what}."  # type: ignore[union-attr]  # a map
        " In a table, `default` serves every environment that is not named."
    )
    return _page(*filter(None, parts))


def _sections(table: Table, path: str) -> Iterator[tuple[str, Table]]:
    """Yield each table below *table* by the name that its section has."""
    for key in table.keys:
        here = f"{path}.{key.name}".lstrip(".")
        if isinstance(key.shape, Table):
            yield here, key.shape
            yield from _sections(key.shape, here)
        elif isinstance(key.shape, MapOf) and isinstance(key.shape.item, Table):
            stands_for = _PLACEHOLDERS[bool(path)]
            yield f"{here}.{stands_for}", key.shape.item
            yield from _sections(key.shape.item, f"{here}.{stands_for}")


def _holds_tables(shape: Shape) -> bool:
    return isinstance(shape, MapOf) and isinstance(shape.item, Table)


def _form(shape: Shape) -> str:
    match shape:
        case Text(choices=choices) if choices:
            return ", ".join(map(_code, choices))
        case MapOf(key=key, item=item):
            return f"{shape.what}: {key.what} = {_form(item)}"
        case Text() | Number() | Flag() | ListOf() | Choice() | Table():
            return shape.what


def _default(value: object) -> str:
    if value is None:
        return "-"
    return _code(json.dumps(value))


# ---------------------------------------------------------------- kinds


def _kinds() -> str:
    rows = []
    for kind, spec in KINDS.items():
        age = "none" if spec.max_age is None else format_duration(spec.max_age)
        rows.append(
            [
                _code(kind),
                spec.summary,
                _fields(spec),
                age,
                format_duration(spec.grace),
                spec.priority,
                _making(spec),
                _rotation(spec),
            ]
        )
    heads = ["kind", "what it is", "fields", "max age", "grace", "priority", "made", "rotated"]
    return _page(
        "# Kinds of secret",
        _prose("""
            The kind of a secret says what it is made of and what holds unless the manifest says
            otherwise.
            """),
        _table(heads, rows),
        _prose("""
            Fields in italics are there only where the manifest names them; `...` means that the
            manifest may name any. *By hand* under *made*: a person or a vendor supplies it, and
            `keyturn set` or `keyturn import` takes it. *By hand* under *rotated*: `keyturn
            rotate` refuses it; make the new value where it comes from, then `keyturn set`.
            """),
    )


def _fields(spec: KindSpec) -> str:
    names = [_code(field) for field in spec.fields]
    names += [f"*{field}*" for field in spec.optional_fields]
    if spec.open_fields:
        names.append("`...`")
    return ", ".join(names)


def _making(spec: KindSpec) -> str:
    made = spec.generate
    if made is None:
        return "by hand"
    size = (
        f"{made.bytes} bytes"
        if made.bytes
        else f"{made.length} characters"
        if made.length
        else f"RSA {made.bits}"
    )
    return f"`{made.format}`, {size}"


def _rotation(spec: KindSpec) -> str:
    if not spec.rotates:
        return "by hand"
    if not spec.strategies:
        return "yes"
    first, *others = map(_code, spec.strategies)
    return ", ".join((f"{first} (default)", *others))


# ---------------------------------------------------------------- exit codes and errors


def _exit_codes() -> str:
    rows = [
        [code.value, meaning, ", ".join(_code(family.__name__) for family in _families_of(code))]
        for code, meaning in MEANINGS.items()
    ]
    return _page(
        "# Exit codes",
        _prose("""
            One table for every command. `keyturn run` is the exception that it must be: it ends
            with the code of the program that it became, and like `env(1)` with 126 where the
            program cannot be started and 127 where it is not found.
            """),
        _table(["code", "meaning", "errors"], rows),
    )


def _families() -> list[type[errors.KeyturnError]]:
    found = [getattr(errors, name) for name in errors.__all__]
    classes = [thing for thing in found if issubclass(thing, errors.KeyturnError)]
    order = list(_meanings())
    return sorted(classes, key=lambda family: order.index(family.__name__))


def _families_of(code: int) -> list[type[errors.KeyturnError]]:
    return [family for family in _families() if exit_of(_sample(family)) == code]


def _sample(family: type[errors.KeyturnError]) -> errors.KeyturnError:
    # Its class alone decides about the exit code, so no argument is needed.
    return family.__new__(family)


def _meanings() -> dict[str, str]:
    """Return what the tree at the head of `keyturn.errors` says of each family."""
    found = {"KeyturnError": "the root of the tree"}
    for line in (errors.__doc__ or "").splitlines():
        _, branch, rest = line.partition("── ")
        if branch:
            name, _, meaning = rest.partition(" ")
            found[name] = meaning.strip() or "a store's answer"
    return found


def _errors() -> str:
    codes = _codes()
    rows = []
    for family in _families():
        own = sorted({family.code, *codes.get(family.__name__, ())})
        rows.append(
            [
                _code(family.__name__),
                _meanings()[family.__name__],
                exit_of(_sample(family)).value,
                "yes" if family.retryable else "no",
                ", ".join(map(_code, own)),
            ]
        )
    return _page(
        "# Errors",
        _prose("""
            Each error has a message, a code that does not change between releases, and, where you
            can do something, a hint. None holds a value. On the command line it is printed as
            `error: ...`, an empty line, `hint: ...`, and decides the [exit code](exit-codes.md).
            """),
        "```text\n" + _tree() + "\n```",
        _table(["family", "meaning", "exit", "worth a retry", "codes"], rows),
    )


def _tree() -> str:
    lines = (errors.__doc__ or "").splitlines()
    return "\n".join(line[4:] for line in lines if "── " in line or line == "    KeyturnError")


def _codes() -> dict[str, set[str]]:
    """Return the codes that each family is raised with, read from the source."""
    known = {family.__name__ for family in _families()}
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "_examples" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = _constants(tree)
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                name = call.func.id
                if name in known:
                    found.setdefault(name, set()).update(_code_of(call, constants))
                elif name in _HELPERS:
                    family, prefix = _HELPERS[name]
                    last = call.args[-1] if call.args else None
                    if isinstance(last, ast.Constant) and isinstance(last.value, str):
                        found.setdefault(family, set()).add(prefix + last.value)
    return found


# Functions that make an error and take the end of its code as their last argument.
_HELPERS = {
    "broken": ("IntegrityError", "audit."),
    "_broken": ("IntegrityError", "audit."),
}


def _constants(tree: ast.Module) -> dict[str, str]:
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _code_of(call: ast.Call, constants: dict[str, str]) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg == "code":
            if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
                yield keyword.value.value
            elif isinstance(keyword.value, ast.Name) and keyword.value.id in constants:
                yield constants[keyword.value.id]


# ---------------------------------------------------------------- audit and environment


def _audit_actions() -> str:
    rows = [
        [_code(action), "begun, then its outcome" if action.settles else "one", action.meaning]
        for action in Action
    ]
    return _page(
        "# Audit actions",
        "The closed list of what can be recorded, as `noun.noun.verb`. Each record carries one"
        " of the outcomes " + ", ".join(_code(outcome) for outcome in Outcome) + ".",
        _prose("""
            *Begun, then its outcome*: where the effect cannot be in one transaction with its
            record, a record says `begun` before it, and a second one settles it. A change inside
            the store is one transaction with its record, and needs one record only. The steps of
            a rotation are settled by the rotation's own journal.
            """),
        _table(["action", "records", "meaning"], rows),
    )


def _environment() -> str:
    from keyturn._internal import failpoints
    from keyturn.cli.commands.help import _ENVIRONMENT

    tests = inspect.cleandoc(failpoints.__doc__ or "").split("\n\n", 1)[1]
    return _page(
        "# Environment variables",
        "As `keyturn help environment` says it:",
        f"```text\n{_ENVIRONMENT.strip()}\n```",
        _prose("""
            `-e`, `--reason` and `--project-dir` win over the environment. No option can be given
            by any other variable.
            """),
        "## For tests",
        _prose("""
            `KEYTURN_FAILPOINT` makes Keyturn die or fail at a named place, which is how its own
            tests and `keyturn demo` kill it.
            """),
        tests,
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
