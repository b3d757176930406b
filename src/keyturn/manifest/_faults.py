"""Faults as they are found, by path; lines are looked up only once there are any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from keyturn.errors import ManifestError, Problem
from keyturn.manifest._lines import LineIndex, Path
from keyturn.manifest._nearest import nearest_name
from keyturn.manifest.strength import find_values

__all__ = ["MAX_FAULTS", "Faults", "TooManyFaults", "named", "nearest"]

MAX_FAULTS = 100
_MAX_SHOWN = 64


class TooManyFaults(Exception):
    """The reading was given up: what follows would only be more of the same."""


@dataclass(frozen=True, slots=True)
class _Fault:
    path: Path
    message: str
    fix: str
    line: int | None


@dataclass(slots=True)
class Faults:
    """Everything wrong, or probably wrong, in one manifest."""

    errors: list[_Fault] = field(default_factory=list)
    warnings: list[_Fault] = field(default_factory=list)
    _seen: set[tuple[Path, str, int | None]] = field(default_factory=set)

    def add(self, path: Path, message: str, fix: str, *, line: int | None = None) -> None:
        """
        Record an error at *path*, once.

        Raises:
            TooManyFaults: There are so many that no more are looked for.
        """
        key = (path, message, line)
        if key in self._seen:
            return
        self._seen.add(key)
        self.errors.append(_Fault(path, message, fix, line))
        if len(self.errors) >= MAX_FAULTS:
            raise TooManyFaults

    def warn(self, path: Path, message: str, fix: str) -> None:
        """Record what is allowed but probably not meant."""
        if len(self.warnings) < MAX_FAULTS:
            self.warnings.append(_Fault(path, message, fix, None))

    def raise_if_any(self, source: str, file: str) -> None:
        """
        Do nothing where all is well.

        Raises:
            ManifestError: With every error, in file order.
        """
        if not self.errors:
            return
        problems = _problems(self.errors, source, file)
        if len(problems) >= MAX_FAULTS:
            problems.append(
                Problem(
                    file=file,
                    line=None,
                    key="",
                    message=f"more than {MAX_FAULTS} problems: the rest was not looked at",
                    fix="correct these first",
                )
            )
        raise ManifestError(problems, hint=f"correct `{file}` and run the command again")

    def found_warnings(self, source: str, file: str) -> tuple[Problem, ...]:
        """Return the warnings in file order."""
        return tuple(_problems(self.warnings, source, file)) if self.warnings else ()


def _problems(faults: Iterable[_Fault], source: str, file: str) -> list[Problem]:
    index = LineIndex.scan(source)
    problems = [
        Problem(
            file=file,
            line=fault.line if fault.line is not None else index.line(fault.path),
            key=_dotted(fault.path),
            message=fault.message,
            fix=fault.fix,
        )
        for fault in faults
    ]
    return sorted(problems, key=lambda problem: problem.line or 0)


def _dotted(path: Path) -> str:
    parts = []
    for part in path:
        if isinstance(part, int):
            parts.append(f"[{part}]")
        else:
            parts.append(("." if parts else "") + _clean(part))
    return "".join(parts)


def _clean(text: str) -> str:
    cut = text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
    return "".join(c if c.isprintable() and c != "`" else "?" for c in cut)


def named(text: str) -> str:
    """Return *text* in backticks for a message, or words for it where it could be a value."""
    if not text or len(text) > _MAX_SHOWN or next(find_values(text), None) is not None:
        return "this text"
    return f"`{_clean(text)}`"


def nearest(text: str, candidates: Iterable[str], *, otherwise: str) -> str:
    """Return a fix that names the nearest of *candidates*, or *otherwise*."""
    near = nearest_name(text, candidates)
    return f"did you mean `{near}`?" if near is not None else otherwise
