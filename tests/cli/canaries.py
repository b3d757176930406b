"""Values that must be nowhere: how they are made, and how they are looked for in any disguise."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import threading
import zlib
from pathlib import Path

_GZIP = b"\x1f\x8b\x08"
_POLL_SECONDS = 0.002


class Canary:
    """
    One value, of letters and digits at its heart, so that every quoting leaves these as they are.

    Args:
        channel: How it gets in; told where it is found.
        value: Given where it was not made here.
    """

    def __init__(self, channel, value=None):
        self.channel = channel
        self.value = value or f"Aa1/+\"' $x{secrets.token_hex(12)}".encode()
        core = self.value if value else self.value[10:]
        text = core.decode("ascii")
        forms = {core, core.hex().encode(), core.hex().upper().encode()}
        forms |= {text.encode("utf-16-le"), text.encode("utf-16-be"), core[::-1]}
        for offset in range(3):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                # The characters at either end depend on what stands beside it.
                forms.add(encode(b"x" * offset + core)[4:-4])
        forms |= {base64.b32encode(core).rstrip(b"=")[:-2]}
        self.forms = frozenset(forms)

    def is_in(self, data):
        """Tell whether *data* holds it in any form, compressed ones included."""
        return any(form in blob for blob in _unpacked(data) for form in self.forms)


def _unpacked(data):
    yield data
    at = data.find(_GZIP)
    while at >= 0:
        with contextlib.suppress(zlib.error):
            yield zlib.decompressobj(wbits=31).decompress(data[at:], 1 << 20)
        at = data.find(_GZIP, at + 1)


class Search:
    """
    Looks through files for canaries, again and again: what has not changed is looked at once.

    Args:
        allowed: Files that may hold them.
    """

    def __init__(self, canaries, folder, *, allowed=frozenset()):
        self._canaries = canaries
        self._folder = folder
        self._allowed = allowed
        self._looked_at = {}

    def __call__(self):
        """Return `channel: path` for each file that holds one, or is named so."""
        found = []
        for path in self._folder.rglob("*"):
            if path in self._allowed or path.is_symlink() or not path.is_file():
                continue
            status = path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
            stamp = (*stamp, len(self._canaries))
            # SQLite writes its shared memory without touching the times.
            if self._looked_at.get(path) == stamp and not path.name.endswith("-shm"):
                continue
            self._looked_at[path] = stamp
            data = os.fsencode(path) + path.read_bytes()
            found += [
                f"{canary.channel}: {path}" for canary in self._canaries if canary.is_in(data)
            ]
        return found


class Watch:
    """While it is entered, the command lines of all processes are read again and again."""

    def __init__(self, canaries):
        self._canaries = canaries
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self.seen = set()
        self.reads = 0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _poll(self):
        known = set(os.listdir("/proc"))
        while not self._stop.wait(_POLL_SECONDS):
            for name in os.listdir("/proc"):
                # Processes from before the command are not its own.
                if not name.isdigit() or name in known:
                    continue
                with contextlib.suppress(OSError):
                    data = Path("/proc", name, "cmdline").read_bytes()
                    self.reads += 1
                    for canary in self._canaries:
                        if canary.is_in(data):
                            self.seen.add(f"{canary.channel}: {data!r}")
