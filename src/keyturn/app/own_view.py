"""
Use case: the retrieval test from inside a consumer, by what that process itself can see.

Neither the store nor a key is needed, only the manifest: what the process has in its
environment and its files is looked at, and what it must not have is tried.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from keyturn.app.checks import Check, Result, value_checks
from keyturn.app.config import Settings
from keyturn.app.copies import copy_files, read_copy, read_value, versions_of
from keyturn.app.denied import denied_inside
from keyturn.app.kinds import NobodyThere
from keyturn.app.probing import PROBE_SECONDS, Probe, live_check, not_asked, side_by_side
from keyturn.app.project import ProjectPaths, find_project
from keyturn.app.session import read_manifest
from keyturn.core.clock import Clock, SystemClock
from keyturn.core.entropy import Entropy, SystemEntropy
from keyturn.core.ids import EnvironmentName, FieldName
from keyturn.core.model import SecretRef, Values
from keyturn.core.ports import KindContext, RotationKind
from keyturn.core.value import SecretValue
from keyturn.errors import InternalError, KeyturnError, UsageError
from keyturn.manifest import Consumer, Manifest, Secret
from keyturn.targets import build

__all__ = ["OwnView", "look_as", "open_view"]

_FOR_ALL = 0o007
_KEYS_BELOW_HOME = Path(".local", "share", "keyturn")
_MOST_STORES = 100


@dataclass(frozen=True, slots=True)
class OwnView:
    """
    What a consumer's own process has.

    Args:
        environ: Its environment, as the kernel gave it.
        live: Try the values where they belong, too.
    """

    manifest: Manifest
    paths: ProjectPaths
    environment: EnvironmentName
    consumer: Consumer
    environ: Mapping[bytes, bytes]
    clock: Clock
    entropy: Entropy
    live: bool = False
    probe_seconds: float = PROBE_SECONDS

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What it is given."""
        return self.manifest.consumer_secrets(self.consumer.name, self.environment)


def open_view(
    settings: Settings,
    *,
    project_dir: Path | None,
    environment: str | None,
    consumer: str,
    live: bool,
    probe_seconds: float,
) -> OwnView:
    """
    Return the view of this very process, as *consumer*.

    Raises:
        NotFound: There is no project here, or no such environment or consumer.
        ManifestError: The manifest is wrong.
    """
    paths = find_project(project_dir, settings.key_home)
    manifest, _ = read_manifest(paths)
    where = manifest.environment(environment or settings.environment).name
    return OwnView(
        manifest=manifest,
        paths=paths,
        environment=where,
        consumer=manifest.consumer_in(where, consumer),
        environ=dict(os.environb),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        live=live,
        probe_seconds=probe_seconds,
    )


def look_as(view: OwnView, *, say: Callable[[str], None] | None = None) -> Iterator[Check]:
    """
    Yield what each check finds; go on after a failure.

    Args:
        say: Told what is being waited for.
    """
    copy: Mapping[str, SecretValue] | None = None
    found = _file_checks(view)
    yield from found
    if view.consumer.render is not None:
        try:
            copy = read_copy(view.paths.folder, view.consumer.render)
        except (OSError, KeyturnError) as error:
            words = error.message if isinstance(error, KeyturnError) else str(error.strerror)
            subject = f"{view.consumer.name} {view.consumer.render.path.rpartition('/')[2]}"
            # A process that was given all by its environment has no need of the file.
            result = Result.SKIPPED if _all_in_environment(view) else Result.FAIL
            yield Check(subject, "delivered", result, f"its own file: {words}")
    if copy is not None:
        yield _fresh(view, copy)
    probes = []
    for secret in view.secrets:
        held = _values(view, secret, copy or {})
        yield from _secret_checks(secret, held)
        probe = _probe(view, secret, held)
        if isinstance(probe, Check):
            yield probe
        elif probe is not None:
            probes.append(probe)
    for answers in side_by_side(probes, clock=view.clock, seconds=view.probe_seconds, say=say):
        yield from answers
    yield from denied_inside(
        view.manifest, view.environment, view.paths, view.consumer, _key_folders(view.paths)
    )


def _all_in_environment(view: OwnView) -> bool:
    return all(
        os.fsencode(name) in view.environ
        for secret in view.secrets
        if secret.required
        for name in secret.variables
    )


def _file_checks(view: OwnView) -> Iterator[Check]:
    render = view.consumer.render
    if render is not None:
        for path in copy_files(view.paths.folder, render, view.secrets):
            yield from _mode_check(view, path, render.mode)
    for secret in view.secrets:
        for variable in secret.variables:
            named = _named_file(view, variable)
            if named is not None:
                # Who else of its group reads it is for whoever mounted it to say.
                yield from _mode_check(view, named, ~_FOR_ALL)


def _mode_check(view: OwnView, path: Path, most: int) -> Iterator[Check]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # told where it is read
    more = mode & ~most
    subject = f"{view.consumer.name} {path.name}"
    if more & _FOR_ALL:
        yield Check(subject, "denied", Result.FAIL, f"mode {mode:04o} lets everybody have it")
    elif more:
        words = f"mode is {mode:04o}, the manifest says {most:04o}"
        yield Check(subject, "denied", Result.FAIL, words)
    else:
        yield Check(subject, "denied", Result.PASS, f"mode {mode:04o}")


def _fresh(view: OwnView, copy: Mapping[str, SecretValue]) -> Check:
    """Compare the file with the environment that this process was started with."""
    subject = f"{view.consumer.name} environment"
    both = [
        (name, SecretValue(view.environ[os.fsencode(name)]), copy[name])
        for secret in view.secrets
        for name in secret.variables
        if name in copy and os.fsencode(name) in view.environ
    ]
    if not both:
        return Check(subject, "fresh", Result.SKIPPED, "it has its values from its file alone")
    other = [name for name, given, written in both if given != written]
    if other:
        words = f"the file holds other values than the environment for {', '.join(other)}"
        return Check(subject, "fresh", Result.FAIL, f"{words}: start it again")
    versions = versions_of(copy) or {}
    told = " ".join(f"{name}={number}" for name, number in versions.items())
    return Check(subject, "fresh", Result.PASS, f"as the file has it: {told}")


def _values(view: OwnView, secret: Secret, copy: Mapping[str, SecretValue]) -> Values:
    found: dict[FieldName, SecretValue] = {}
    for field, variable in secret.fields.items():
        if variable is None:
            # Not delivered by name: what only identifies is in the manifest.
            if field in secret.identity:
                found[field] = SecretValue.from_text(secret.identity[field])
            continue
        given = view.environ.get(os.fsencode(variable))
        if given is not None:
            found[field] = SecretValue(given)
        elif (path := _named_file(view, variable)) is not None:
            with contextlib.suppress(OSError):
                found[field] = read_value(path)
        elif variable in copy:
            found[field] = copy[variable]
    return found


def _named_file(view: OwnView, variable: str) -> Path | None:
    """Return the file that `NAME_FILE` names, as many images take their values."""
    name = view.environ.get(os.fsencode(f"{variable}_FILE"))
    return Path(os.fsdecode(name)) if name else None


def _secret_checks(secret: Secret, held: Values) -> Iterator[Check]:
    lacking = [
        str(variable)
        for field, variable in secret.fields.items()
        if variable is not None and field not in held
    ]
    if lacking:
        result = Result.FAIL if secret.required else Result.SKIPPED
        optional = "" if secret.required else "; optional"
        words = f"{', '.join(lacking)} neither in the environment nor in a file{optional}"
        yield Check(secret.name, "present", result, words)
    elif not secret.variables:
        words = "it is given by no variable"
        yield Check(secret.name, "present", Result.SKIPPED, words)
    else:
        yield Check(secret.name, "present", Result.PASS, ", ".join(secret.variables))
    if held:
        yield from value_checks(secret, held)


# --- trying ------------------------------------------------------------------------------


def _probe(view: OwnView, secret: Secret, held: Values) -> Probe | Check | None:
    if not view.live or not held:
        return None
    name = str(secret.name)
    why = not_asked(secret)
    if any(field not in held for field in secret.fields):
        why = "not tried: this consumer does not have all of it"
    if why is not None:
        return Check(name, "live", Result.SKIPPED, why)
    try:
        kind = _kind(view, secret)
    except UsageError as error:
        return Check(name, "live", Result.SKIPPED, error.message)
    return Probe(name, "live", lambda: [live_check(name, kind, held)])


def _kind(view: OwnView, secret: Secret) -> RotationKind:
    """Return the steps of *secret*, of which only `probe` can be used here."""

    def nothing() -> Values:
        raise InternalError("a value was to be made where values are only tried")

    admin = secret.target.get("admin")
    context = KindContext(
        ref=SecretRef(view.environment, secret.name),
        project=view.manifest.project.name,
        protected=view.manifest.environments[view.environment].protected,
        fields=tuple(secret.fields),
        strategy=None if secret.strategy is None else str(secret.strategy),
        target=dict(secret.target),
        admin=None,
        admin_name=None if admin is None else str(admin),
        grace_seconds=int(secret.grace.total_seconds()),
        make=nothing,
        supplier=NobodyThere(),
        clock=view.clock,
        entropy=view.entropy,
    )
    return build(str(secret.kind), context)


# --- the keys ----------------------------------------------------------------------------


def _key_folders(paths: ProjectPaths) -> list[Path]:
    """Return where the keys of the store may lie, as far as it can be told from here."""
    homes = [paths.key_home]
    # Whoever owns it may be a user of the machine outside, who is not known in here.
    with contextlib.suppress(KeyError, OSError):
        owner = pwd.getpwuid(paths.folder.stat().st_uid)
        homes.append(Path(owner.pw_dir) / _KEYS_BELOW_HOME)
    found: list[Path] = []
    for home in dict.fromkeys(homes):
        try:
            below = sorted(home.iterdir())[:_MOST_STORES]
        except OSError:
            below = []
        found += [path for path in below if path.is_dir()] or [home]
    return found
