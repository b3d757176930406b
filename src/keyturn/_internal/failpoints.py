"""
Named places where a test can make the process die or an operation fail.

A failpoint costs one attribute test when nothing is armed. Arming is by the
environment variable `KEYTURN_FAILPOINT`, read once, or by `arm` in a test:

    NAME            kill this process with SIGKILL when NAME is reached
    NAME:N          the same at the N-th time
    *:N             the same at the N-th failpoint reached, whichever it is
    NAME:error      raise OSError(EIO) instead, once
    NAME:full       raise OSError(ENOSPC) instead, once
    trace=PATH      append each name reached to the file PATH

Several are joined by a comma. Nothing here changes what a value is or who may
read it: whoever can set this process's environment can already end it.
"""

from __future__ import annotations

import errno
import os
import signal

__all__ = ["arm", "disarm", "hit"]


class _Plan:
    def __init__(self, text: str) -> None:
        self.trace: str | None = None
        self.kill: dict[str, int] = {}
        self.fail: dict[str, int] = {}
        for item in filter(None, text.split(",")):
            if item.startswith("trace="):
                self.trace = item.removeprefix("trace=")
                continue
            name, _, how = item.partition(":")
            if how == "error":
                self.fail[name] = errno.EIO
            elif how == "full":
                self.fail[name] = errno.ENOSPC
            else:
                self.kill[name] = int(how or "1")

    def hit(self, name: str) -> None:
        if self.trace is not None:
            with open(self.trace, "a", encoding="utf-8") as file:  # noqa: PTH123
                file.write(name + "\n")
        code = self.fail.pop(name, None)
        if code is not None:
            raise OSError(code, os.strerror(code))
        for key in (name, "*"):
            if key in self.kill:
                self.kill[key] -= 1
                if self.kill[key] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)


_plan: _Plan | None = None
if "KEYTURN_FAILPOINT" in os.environ:
    _plan = _Plan(os.environ["KEYTURN_FAILPOINT"])


def hit(name: str) -> None:
    """Do what is armed for *name*; usually nothing."""
    if _plan is not None:
        _plan.hit(name)


def arm(text: str) -> None:
    """Arm the failpoints that *text* describes, in this process, replacing what was armed."""
    global _plan  # noqa: PLW0603 - process-wide by nature: it stands for the machine failing
    _plan = _Plan(text)


def disarm() -> None:
    """Arm nothing."""
    global _plan  # noqa: PLW0603
    _plan = None
