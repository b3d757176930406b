"""
The command's front door, and the short way through it.

`keyturn run` and `keyturn get` are started thousands of times a day, so this
module reads its arguments itself and imports almost nothing: what stands in
`tests/unit/fast/test_fast_imports.py` and no more. Where anything is unusual (an
option it does not know, a bundle that is absent, stale or unreadable, a log that
needs repair) it returns None and the full command line takes over, which finds
out what is wrong and says so. Nothing here reports an error of its own, except
that a program cannot be started. `keyturn.deliver.bundle` draws the bundle's format.
"""

# Annotations are quoted: `from __future__ import annotations` would import a module.
# ruff: noqa: UP037

import os
import sys
import time
from posix import environ as _environ  # what `os.environb` looks at, without its wrapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

MANIFEST = "keyturn.toml"
STATE_FOLDER = ".keyturn"
LOCATOR_MARK = "keyturn-locator-1"
CLOSED = "store.closed"  # in the key folder: how the last slow command left the store's file
BUNDLE_MARK = b"keyturn-bundle 1"
DEFAULT_ENVIRONMENT = "development"
CLOCK_SKEW_SECONDS = 300
_LOOKS, _BETWEEN_LOOKS_SECONDS = 5, 0.004  # of closing it, which syncs
_E2BIG, _ENOEXEC, _EBADF, _EACCES = 7, 8, 9, 13
_UNREACHABLE, _NOT_EXECUTABLE, _NOT_FOUND = 7, 126, 127  # `keyturn.cli.exits`, env(1)
_COERCED = (b"C.UTF-8", b"C.utf8", b"UTF-8")  # set by the interpreter for itself (PEP 538)
_KIND_AND_OTHERS, _PLAIN_FILE = 0o170077, 0o100000  # the kind, and each bit for group and others


class Bundle:
    """
    One opened bundle.

    Args:
        head: Lines of the header by their first word, in order.
        body: The bytes after the empty line.
    """

    __slots__ = ("body", "head")

    def __init__(self, plain: bytes) -> None:
        head, _, self.body = plain.partition(b"\n\n")
        lines = head.split(b"\n")
        if lines[0] != BUNDLE_MARK:
            raise ValueError("not a bundle")
        self.head: "dict[bytes, list[list[bytes]]]" = {}
        for line in lines[1:]:
            rest = line.split(b" ")
            self.head.setdefault(rest.pop(0), []).append(rest)

    def one(self, word: bytes) -> "list[bytes]":
        """Return the rest of the only line that starts with *word*."""
        return self.head[word][0]

    def entries(self) -> "list[tuple[list[bytes], bytes]]":
        """Return each `config` and `secret` line with its value, in order."""
        found = []
        at = 0
        for word in (b"config", b"secret"):
            for rest in self.head.get(word, ()):
                label = rest[-2]
                start = at + len(label) + 1
                end = start + int(rest[-1])
                found.append(([word, *rest], self.body[start:end]))
                at = end + 1
        return found


class Arguments:
    """What the command line said, where it said only what this module knows."""

    __slots__ = ("consumer", "environment", "project", "words")

    def __init__(self) -> None:
        self.environment = os.environ.get("KEYTURN_ENVIRONMENT") or DEFAULT_ENVIRONMENT
        self.consumer = ""
        self.project = ""
        self.words: "list[str]" = []


_OPTIONS = {
    "-e": "environment",
    "--environment": "environment",
    "--consumer": "consumer",
    "--project-dir": "project",
}


def read_arguments(words: "list[str]", *, command: bool) -> "Arguments | None":
    """
    Return what *words* say, or None where they hold anything unusual.

    Args:
        command: The first word that is no option begins a command of its own,
            whose options are not ours.
    """
    found = Arguments()
    rest = iter(words)
    for word in rest:
        if word == "--":
            found.words.extend(rest)
            return found
        if not word.startswith("-"):
            found.words.append(word)
            if command:
                found.words.extend(rest)
                return found
            continue
        name, equals, value = word.partition("=")
        attribute = _OPTIONS.get(name)
        if attribute is None or (equals and not name.startswith("--")):
            return None
        if not equals:
            value = next(rest, "")
        if not value:
            return None
        setattr(found, attribute, value)
    return found


def find_project(given: str) -> "str | None":
    """Return the folder *given* if it holds a manifest; without one, the nearest from here up."""
    folder = os.path.realpath(given or ".")
    while not os.path.isfile(f"{folder}/{MANIFEST}"):
        parent = os.path.dirname(folder)
        if given or parent == folder:
            return None
        folder = parent
    return folder


def key_home() -> str:
    """Return the folder outside every repository where keys lie."""
    environ = os.environ
    return environ.get("KEYTURN_HOME") or (
        (environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")) + "/keyturn"
    )


def read_private(path: str, limit: int) -> bytes:
    """
    Return the content of a file that only its owner, who is the caller, may read.

    Raises:
        OSError: It is absent, is not a plain file, or others can reach it.
    """
    # Not blocking: a pipe in the file's place would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & _KIND_AND_OTHERS != _PLAIN_FILE:
            raise PermissionError(_EACCES, "it is no plain file, or not yours alone", path)
        content = os.read(descriptor, limit)
        while len(content) == limit:
            limit *= 2
            content = os.pread(descriptor, limit, 0)
        return content
    finally:
        os.close(descriptor)


def manifest_stamp(project: str) -> str:
    """Return what identifies the manifest's present content without reading it."""
    status = os.stat(f"{project}/{MANIFEST}")
    # The change time too: archives and `cp -p` give a new content an old modification time.
    return f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_size} {status.st_ino}"


def database_stamps(project: str) -> "tuple[str, str]":
    """Return what identifies the store's file, and what changes with its content."""
    status = os.stat(f"{project}/{STATE_FOLDER}/store.db")
    file = f"{status.st_dev} {status.st_ino}"
    # The change time too: nobody sets it, while `cp -p` sets the other one back.
    return file, f"{file} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\n"


def is_as_left(project: str, keys: str) -> bool:
    """Tell whether the store's file is as the last slow command left it, or one leaves it now."""
    for _ in range(_LOOKS):
        if read_private(f"{keys}/{CLOSED}", 256).decode() == database_stamps(project)[1]:
            return True
        time.sleep(_BETWEEN_LOOKS_SECONDS)
    return False


def open_bundle(project: str, environment: str) -> "Bundle":
    """Return the bundle of *environment*, true now; raises whatever keeps it from serving."""
    state = f"{project}/{STATE_FOLDER}"
    mark, store_id = read_private(f"{state}/locator", 256).decode("ascii").split()
    if mark != LOCATOR_MARK or not store_id.isalnum():
        raise ValueError("locator")
    keys = f"{key_home()}/{store_id}"
    for folder in (state, keys):
        status = os.stat(folder)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(folder)
    identity = read_private(f"{keys}/bundle.key", 4096).decode("ascii")
    sealed = read_private(f"{state}/bundles/{environment}.age", 65536)
    generation = read_private(f"{keys}/generation.{environment}", 64).strip()

    import_age()
    from pyrage import decrypt, x25519

    key = x25519.Identity.from_str(identity.rsplit("\n", 2)[-2])
    bundle = Bundle(decrypt(sealed, [key]))
    now = time.time()  # the clock seam's module imports datetime
    if (
        bundle.one(b"store")[0].decode() != store_id
        or bundle.one(b"environment")[0].decode() != environment
        or bundle.one(b"generation")[0] != generation
        or b" ".join(bundle.one(b"manifest")).decode() != manifest_stamp(project)
        or b" ".join(bundle.one(b"database")).decode() != database_stamps(project)[0]
        or not int(bundle.one(b"created")[0]) - CLOCK_SKEW_SECONDS <= now
        or not is_as_left(project, keys)
    ):
        raise ValueError("stale")
    if now >= int(bundle.one(b"not_after")[0]):
        from keyturn._fastread import require_true

        require_true(bundle, sealed, f"{keys}/fresh.{environment}", now, read_private)
    return bundle


def import_age() -> None:
    """Import `pyrage` without its one file of Python, which only hands compiled names on."""
    folders = [f"{folder}/pyrage" for folder in sys.path]
    found = [folder for folder in folders if os.path.isfile(f"{folder}/__init__.py")]
    if "pyrage" in sys.modules or not found:
        return
    package = sys.modules["pyrage"] = type(sys)("pyrage")
    package.__path__ = found[:1]
    from pyrage import pyrage as compiled

    vars(package).update([(name, getattr(compiled, name)) for name in compiled.__all__])


def select(bundle: Bundle, consumer: str) -> "tuple[set[bytes], bool]":
    """
    Return the secrets that *consumer* uses, and whether it gets the plain settings.

    Raises:
        KeyError: There is no such consumer, or a required secret has no usable value.
    """
    refused = bundle.head.get(b"lacking", []) + bundle.head.get(b"unfit", [])
    if not consumer:
        names, config = {rest[0] for rest in bundle.head.get(b"secret", ())}, True
        wants = {rest[0] for rest in refused}
    else:
        row = {rest[0]: rest for rest in bundle.head.get(b"consumer", ())}[consumer.encode()]
        names, config = set(row[2:]), row[1] == b"config"
        wants = names | {b"-"} if config else names
    if any(rest[0] in wants for rest in refused):
        raise KeyError("lacking")
    return names, config


def child_environment(
    bundle: Bundle, names: set[bytes], *, config: bool
) -> "tuple[dict[bytes, bytes], str]":
    """
    Return the environment of the child, and the versions it carries.

    A secret replaces a variable of the same name; a plain setting gives way to
    one that the caller has set, so that `PORT=9000 keyturn run` means what it says.
    """
    environ = _environ.copy()
    environ.pop(b"", None)  # an entry without a name, which nothing can be started with
    if environ.get(b"LC_CTYPE") in _COERCED:
        _restore_lc_ctype(environ)
    versions = {}
    for row, value in bundle.entries():
        if row[0] == b"config":
            if config:
                environ.setdefault(row[1], value)
        elif row[1] in names:
            versions[row[1]] = row[2]
            if row[4] != b"-":
                environ[row[4]] = value
    text = b" ".join(name + b"=" + versions[name] for name in sorted(versions))
    environ[b"KEYTURN_VERSIONS"] = text
    return environ, text.decode()


def _restore_lc_ctype(environ: "dict[bytes, bytes]") -> None:
    try:
        with open("/proc/self/environ", "rb") as file:
            items = file.read().split(b"\0")
    except OSError:  # no /proc: nobody can tell, and what is there stays
        return
    del environ[b"LC_CTYPE"]
    environ.update((item[:8], item[9:]) for item in items if item.startswith(b"LC_CTYPE="))


def replace_process(command: "list[str]", environ: "dict[bytes, bytes]") -> "NoReturn":
    """
    Become *command*, with the signal dispositions that it would have had without us.

    Two of them nobody can know. The interpreter ignores SIGPIPE and SIGXFSZ before any
    code of ours runs, and keeps no trace of what the caller had. Both become the default,
    as with `subprocess`: a pipeline whose first program ignores SIGPIPE may never end,
    while a server that needs it ignored mostly sees to that itself. Only where systemd
    has started this very process does SIGPIPE stay ignored, as in all its services
    (`IgnoreSIGPIPE=`). What was ignored or blocked of all other signals stays so.

    The path is searched as execvp(3) does; `os.execvpe` imports `warnings` for it.

    Raises:
        OSError: It cannot be started; this process goes on.
    """
    from _signal import SIG_DFL, SIG_IGN, SIGPIPE, SIGXFSZ, signal

    by_systemd = environ.get(b"SYSTEMD_EXEC_PID") == b"%d" % os.getpid()
    changed = (SIGXFSZ,) if by_systemd else (SIGPIPE, SIGXFSZ)
    for number in changed:
        signal(number, SIG_DFL)
    name = os.fsencode(command[0])
    folders = environ.get(b"PATH", os.fsencode(os.defpath)).split(b":") if name else []
    paths = [folder + b"/" + name if folder else name for folder in folders]
    # To look is cheaper than to try, which hands the whole environment over each time.
    paths = [path for path in paths if os.access(path, os.F_OK)] + paths
    refused: "OSError | None" = None
    for path in [name] if b"/" in name else paths:
        try:
            os.execve(path, command, environ)  # noqa: S606 - no shell, by design
        except OSError as error:
            if error.errno == _ENOEXEC:  # a script that names no interpreter is the shell's
                os.execve(b"/bin/sh", [b"sh", path, *map(os.fsencode, command[1:])], environ)  # noqa: S606
            absent = isinstance(error, FileNotFoundError | NotADirectoryError)
            refused = refused or (None if absent and path != name else error)
    for number in changed:  # we go on: as it was for us
        signal(number, SIG_IGN)
    raise refused or FileNotFoundError(2, "No such file or directory")


def _run(found: Arguments) -> "Callable[[], int] | None":
    project = find_project(found.project)
    if project is None or not found.words:
        return None
    bundle = open_bundle(project, found.environment)
    names, config = select(bundle, found.consumer)
    environ, versions = child_environment(bundle, names, config=config)
    from keyturn._fastaudit import record

    state, action = f"{project}/{STATE_FOLDER}", "environment.value.deliver"
    more = {"consumer": found.consumer, "command": found.words[0]}
    record(state, action, found.environment, versions, **more)
    return lambda: start(found.words, environ)


def start(command: list[str], environ: dict[bytes, bytes]) -> int:
    """Become *command*; return the shell's code for one that cannot be started."""
    if _core_limit is not None:
        from resource import RLIMIT_CORE, setrlimit

        setrlimit(RLIMIT_CORE, _core_limit)
    try:
        replace_process(command, environ)
    except OSError as error:
        code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
        large = "its arguments and environment together are more than this system takes"
        why = large if error.errno == _E2BIG else os.strerror(error.errno or 0)
        _complain(f"cannot start `{command[0]}`: {why}")
        return code


def _complain(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"error: {text}\n")


_core_limit: "tuple[int, int] | None" = None


def _leaves_no_core() -> bool:
    """Tell whether this process would leave no core anyway, as is usual; cheaper than importing."""
    found = []
    for path in ("/proc/self/limits", "/proc/sys/kernel/core_pattern"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        found.append(os.read(descriptor, 4096))
        os.close(descriptor)
    soft = found[0].partition(b"Max core file size")[2].split(None, 1)[:1]
    return soft == [b"0"] and not found[1].startswith(b"|")


def forbid_core() -> None:
    """Let no crash of this process write its memory to a file; `start` gives the limit back."""
    global _core_limit  # noqa: PLW0603 - a limit of the process
    if _leaves_no_core():
        return
    from resource import RLIMIT_CORE, getrlimit, setrlimit

    limit = getrlimit(RLIMIT_CORE)
    # One byte, not none: a handler that reads dumps from a pipe is given them at 0 and
    # at any limit but this one (core(5), fs/coredump.c).
    wanted = 1 if limit[1] else 0
    if limit[0] != wanted:
        _core_limit = limit
        setrlimit(RLIMIT_CORE, (wanted, limit[1]))


def _get(found: Arguments) -> "Callable[[], int] | None":
    project = find_project(found.project)
    if project is None or len(found.words) != 1 or found.consumer:
        return None
    bundle = open_bundle(project, found.environment)
    wanted = found.words[0].encode()
    matches = [
        (row, value)
        for row, value in bundle.entries()
        if row[0] == b"secret" and wanted in (row[4], row[1] + b"." + row[3], row[1])
    ]
    if len(matches) != 1:
        return None
    from keyturn._fastaudit import record

    row, value = matches[0]
    name, version, field = [part.decode() for part in row[1:4]]
    state, subject = f"{project}/{STATE_FOLDER}", f"{found.environment}/{name}"
    record(state, "secret.value.read", subject, f"{name}={version}", field=field)
    # Nothing is left to do: to take the interpreter down costs a tenth of the whole.
    return lambda: os._exit(write_value(value))


def write_value(value: bytes) -> int:
    """
    Write exactly *value* to standard output, and a newline only on a terminal; return 0.

    Raises:
        OSError: It cannot be written, or was closed when we were started.
    """
    if sys.stdout is None:  # its number may be another file's by now
        raise OSError(_EBADF, "it is closed", "standard output")
    data = value + b"\n" if os.isatty(1) else value
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError as error:
        error.filename = "standard output"
        raise
    return 0


_VERBS: "dict[str, Callable[[Arguments], Callable[[], int] | None]]" = {"run": _run, "get": _get}


def main(argv: list[str]) -> int:
    """
    Run the command line *argv* and return its exit code.

    Returns:
        A code of `keyturn.cli.exits`; for `run` the child's own, or what `start` returns.
    """
    try:
        finish = _prepare(argv)
        if finish is not None:
            return finish()
        from keyturn.cli.main import main as full

        return full(argv)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone: what is left of it has no reader.
        silence(1, 2)
        return 0
    except OSError as error:
        _complain(f"`{error.filename}`: {error.strerror}")
        return _UNREACHABLE


def silence(*descriptors: int) -> None:
    """Let what is still to be written to *descriptors* go nowhere."""
    for descriptor in descriptors:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _prepare(argv: list[str]) -> "Callable[[], int] | None":
    verb = _VERBS.get(argv[1]) if len(argv) > 1 else None
    found = read_arguments(argv[2:], command=argv[1] == "run") if verb is not None else None
    if verb is None or found is None:
        return None
    forbid_core()
    try:
        # All up to here can be done again: nothing has been shown or started.
        return verb(found)
    except Exception:  # noqa: BLE001 - whatever it is, the full command line says it
        return None
