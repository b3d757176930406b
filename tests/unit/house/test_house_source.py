"""Rules that hold for every module of the package."""

from __future__ import annotations

import ast
import sys

from tests._plugins import source

MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 500

# Each names a way for text to become code, or for a value to reach a shell.
BANNED_CALLS = {
    "eval",
    "exec",
    "marshal.load",
    "marshal.loads",
    "os.popen",
    "os.system",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "shelve.open",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "tempfile.mktemp",
    "yaml.load",
    "yaml.unsafe_load",
}

# Which rooms (or files) may import a library that is not ours. A vendor's names
# end at its adapter, so that it can be replaced, and so that its exceptions,
# which may quote a value, cannot travel.
VENDORS = {
    "apprise": ("notify/",),
    "argon2": ("crypto/",),
    "boto3": ("testing/",),
    "botocore": ("stores/", "targets/"),
    "click": ("cli/",),
    "cryptography": ("crypto/",),
    "httpx": ("targets/", "testing/"),
    "joserfc": ("crypto/", "targets/", "testing/"),
    "msgspec": ("app/backup_", "audit/"),
    "paramiko": ("targets/",),
    "psycopg": ("demo/", "targets/", "testing/"),
    "pyrage": ("crypto/", "fast.py"),
    "redis": ("targets/", "testing/"),
    "rich": ("cli/", "demo/"),
    "tomlkit": ("manifest/",),
    "yaml": ("stores/",),
}
STANDARD_ONLY = {"core", "errors", "_internal", "_fastaudit", "_fastread"}
# Of the standard library in one version and not in another.
STANDARD = sys.stdlib_module_names | {"_sha2", "_sha256"}


def places(findings):
    """Return what *findings* yields for each module, as `file:line: what`."""
    return [
        f"{module.path}:{line}: {what}"
        for module in source.modules()
        for line, what in findings(module)
    ]


def test_functions_are_short():
    """No function is longer than 70 lines: one that is holds more than one decision."""

    def long(module):
        for name, node in source.functions(module):
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                yield node.lineno, f"{name} has {lines} lines"

    assert [] == places(long)


def test_files_are_short():
    """No file is longer than 500 lines: it can be read in one sitting."""
    sizes = {module.path: len(module.text.splitlines()) for module in source.modules()}
    assert {} == {path: lines for path, lines in sizes.items() if lines > MAX_FILE_LINES}


def test_no_assert_guards_run_time():
    """An `assert` vanishes under -O, so the package has none; what it ships for tests may."""

    def asserts(module):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Assert) and module.room != "testing":
                yield node.lineno, "assert"

    assert [] == places(asserts)


def test_no_call_turns_text_into_code():
    """No eval, no pickle, no shell: a value that holds the wrong characters stays a value."""

    def banned(module):
        for _, call in source.calls(module):
            name = source.dotted(call.func)
            shell = any(
                keyword.arg == "shell" and getattr(keyword.value, "value", None) is not False
                for keyword in call.keywords
            )
            if name in BANNED_CALLS or shell:
                yield call.lineno, name

    assert [] == places(banned)


def test_vendors_stay_in_their_adapters():
    """A library that is not ours is imported only where the table allows it."""

    def strangers(module):
        for name, line in source.imports(module):
            top = name.split(".")[0]
            if top == "keyturn" or top in STANDARD:
                continue
            allowed = () if module.room in STANDARD_ONLY else VENDORS.get(top, ())
            if not module.path.startswith(allowed):
                yield line, name

    assert [] == places(strangers)


def test_no_vendor_is_allowed_without_need():
    """An entry of the table that nothing uses any more would let the library back in unseen."""
    used = {
        (name.split(".")[0], place)
        for module in source.modules()
        for name, _ in source.imports(module)
        for place in VENDORS.get(name.split(".")[0], ())
        if module.path.startswith(place)
    }
    table = {(vendor, place) for vendor, allowed in VENDORS.items() for place in allowed}
    assert [] == sorted(table - used)


def test_imports_are_absolute():
    """`from keyturn.room import name`: one spelling, so that a search finds every use."""

    def relative(module):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield node.lineno, node.module or "."

    assert [] == places(relative)
