"""
A year of ticks in a few minutes: the schedule, the journal and the runner are the real ones.

Time is a `FakeClock` whose wall can be set, so that what really passed is known beside what
the clock shows. Two tickers see the same moment, then both act. Targets fail, ticks are
killed, the machine is off for a week; what was begun when is kept, to be judged and drawn.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from keyturn._internal.database import Database
from keyturn.app.judging import guard_of, judge_all
from keyturn.app.tick import carry_out, was_beaten
from keyturn.app.waves import Ended, WaveEnd
from keyturn.core.entropy import SystemEntropy
from keyturn.core.ids import Token
from keyturn.core.model import Origin, SecretRef, Stage
from keyturn.core.value import SecretValue
from keyturn.errors import KeyturnError, Rejected, Unavailable
from keyturn.manifest import load, zone
from keyturn.rotate import Journal, Plan, Runner, Step
from keyturn.rotate.schedule import Turn
from keyturn.stores import MemoryStore
from keyturn.testing import FakeClock
from tests.unit.rotate.rotating import VALUE, Target, TargetKind

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
TICK = HOUR
PAIR_DISTANCE = 3 * DAY
# The longest pauses of the schedule, after passing failures and after others.
LONGEST_PAUSE = DAY

HEAD = """\
[project]
name = "year"
owner = "team"
[schedule]
pair_distance = "3d"
[stores.local]
kind = "embedded"
[environments.production]
store = "local"
timezone = "Europe/Berlin"
freeze = ["fri 16:00..mon 08:00", "2026-11-20T12:00..2026-12-01T06:00"]
[environments.staging]
store = "local"
timezone = "America/New_York"
freeze = ["sat 22:00..sun 02:30"]
[environments.development]
store = "local"
"""


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong from *start* to *end*, in days of the year."""

    kind: str
    start: float
    end: float
    part: int = 0
    offset: timedelta = timedelta(0)

    def holds(self, passed: timedelta) -> bool:
        return self.start * DAY <= passed < self.end * DAY


# Outages hit every fourth secret; `denied` is one that needs a person.
TROUBLES = (
    Trouble("outage", 40, 41.5, part=0),
    Trouble("outage", 130, 130.3, part=1),
    Trouble("denied", 200, 204, part=2),
    Trouble("outage", 300, 303, part=3),
    Trouble("off", 150, 157),
    Trouble("clock", 75, 75.4, offset=DAY),
    Trouble("clock", 100, 100.5, offset=timedelta(seconds=-90)),
    Trouble("clock", 260, 260.4, offset=timedelta(hours=-3)),
)
A_YEAR_AHEAD = Trouble("clock", 230, 230.1, offset=365 * DAY)


@dataclass(frozen=True)
class Begun:
    """A rotation that was begun, and what was true then."""

    ref: SecretRef
    version: int
    passed: timedelta
    wall: datetime
    offset: timedelta
    made_wall: datetime


@dataclass
class Seen:
    """What happened."""

    begun: list[Begun] = field(default_factory=list)
    # When each version really came into use.
    promoted: dict[tuple[SecretRef, int], timedelta] = field(default_factory=dict)
    # And when it was made, which its age counts from.
    made: dict[tuple[SecretRef, int], timedelta] = field(default_factory=dict)
    ends: Counter = field(default_factory=Counter)
    frozen: dict[str, list[tuple[timedelta, timedelta]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    kills: int = 0
    ticks: int = 0


class KilledError(BaseException):
    """The process dies here."""


class YearKind(TargetKind):
    """The steps for one target of the year."""

    def __init__(self, year, ref, worker) -> None:
        super().__init__(year.targets[ref])
        self.year, self.ref, self.worker = year, ref, worker

    def _meet(self, name):
        if self.year.dies():
            self.worker.die()
        trouble = self.year.trouble_of(self.ref)
        if trouble == "outage":
            raise Unavailable("no answer", code="target.unavailable")
        if trouble == "denied":
            raise Rejected("permission denied", code="target.denied")


class Quiet:
    """Takes records and deliveries."""

    def record(self, action, object, outcome, detail):
        pass

    def deliver(self, ref, version):
        return []


class YearWorker:
    """One process's part: a connection of its own, and the real runner."""

    def __init__(self, year, ticker) -> None:
        self.year, self.ticker = year, ticker
        self.database = year.open_database()
        self.manifest, self.store, self.clock = year.manifest, year.store, year.clock
        self.journal = Journal(self.database, clock=year.clock)

    def do(self, judged):
        if self.ticker.dead:
            return Ended(judged.ref, WaveEnd.SKIPPED, "killed")
        try:
            report = self._do(judged)
            report.require_success()
        except KilledError:
            self.year.bury(judged.ref)
            return Ended(judged.ref, WaveEnd.SKIPPED, "killed")
        except KeyturnError as error:
            if was_beaten(error):
                return Ended(judged.ref, WaveEnd.SKIPPED, error.code)
            return Ended(judged.ref, WaveEnd.FAILED, error.message, failure=error)
        end = WaveEnd.WAITING if report.rotation.is_open else WaveEnd.DONE
        return Ended(judged.ref, end, report=report)

    def _do(self, judged):
        ref, year = judged.ref, self.year
        kind = YearKind(year, ref, self)
        runner = Runner(
            database=self.database,
            store=self.store,
            journal=self.journal,
            audit=Quiet(),
            delivery=Quiet(),
            clock=self.clock,
            entropy=year.entropy,
            listener=lambda progress: year.saw(ref, progress),
        )
        if judged.decision.turn is Turn.RESUME:
            return runner.resume(ref, kind)
        secret = self.manifest.secret_in(ref.environment, ref.name)
        plan = Plan("test", "default", judged.version, True, int(secret.grace.total_seconds()))
        real = guard_of(self, ref)

        def guard():
            real()
            year.begin(ref, judged.version)

        return runner.start(ref, kind, plan, guard=guard)

    def die(self):
        self.ticker.dead = True
        self.database.close()  # so that nothing can be let go of, as after kill -9
        raise KilledError

    def close(self):
        self.database.close()


@dataclass
class Ticker:
    """One run of the tick."""

    dead: bool = False


class Year:
    """
    The whole of it.

    Args:
        secrets: How many, over all three environments.
        deaths: How likely each call at a target is to be the last of its process.
    """

    def __init__(self, folder: Path, *, secrets=999, seed=1, troubles=TROUBLES, deaths=0.004):
        self.folder, self.troubles, self.deaths = folder, troubles, deaths
        self.random = random.Random(seed)
        self.clock = FakeClock(START)
        self.entropy = SystemEntropy()
        self.manifest = load(manifest_of(secrets // 3).encode(), file="keyturn.toml")
        self.store = MemoryStore(clock=self.clock)
        self.seen = Seen()
        self.offset = timedelta(0)
        self.targets: dict[SecretRef, Target] = {}
        self._zero = self.clock.monotonic()
        # A process that has ended, which the killed ones are made to look like.
        ended = subprocess.Popen([sys.executable, "-c", "pass"])
        ended.wait()
        self._dead_pid = ended.pid
        self.database = self.open_database(create=True)
        self.journal = Journal(self.database, clock=self.clock)
        self.parts = {}
        self._plant()

    @property
    def refs(self):
        return list(self.targets)

    def passed(self) -> timedelta:
        """Return the time that has really passed."""
        return timedelta(seconds=self.clock.monotonic() - self._zero)

    def open_database(self, *, create=False):
        database = Database.open(self.folder / "year.db", create=create)
        database.execute("PRAGMA synchronous = OFF")  # no power is cut here
        return database

    def _plant(self):
        # Their first versions are of the weeks before, so that they are not all of one age.
        planted = [
            SecretRef(environment, secret.name)
            for environment in self.manifest.environments
            for secret in self.manifest.secrets_in(environment)
        ]
        now = self.clock.now()
        for number, ref in enumerate(planted):
            self.parts[ref] = number % 4
            secret = self.manifest.secret_in(ref.environment, ref.name)
            age = self.random.random() * 0.9 * secret.max_age.total_seconds()
            self.clock.step(-age)
            value = SecretValue(b"first")
            version = self.store.put_pending(
                ref, {VALUE: value}, origin=Origin.SET, token=Token("first")
            )
            self.store.promote(ref, version.number, expected_current=None)
            self.clock.step(age)
            self.seen.promoted[ref, 1] = self.seen.made[ref, 1] = timedelta(seconds=-age)
            self.targets[ref] = Target(overlapping=True, accepted={b"first"})
        assert self.clock.now() - now < timedelta(seconds=1)

    # --- what the steps ask and tell ----------------------------------------------------

    def trouble_of(self, ref):
        passed = self.passed()
        return next(
            (
                trouble.kind
                for trouble in self.troubles
                if trouble.kind in ("outage", "denied")
                and trouble.part == self.parts[ref]
                and trouble.holds(passed)
            ),
            None,
        )

    def dies(self):
        return self.random.random() < self.deaths

    def bury(self, ref):
        """Make the owner of *ref*'s rotation one that has ended."""
        self.seen.kills += 1
        with self.open_database() as database:
            database.execute(
                "UPDATE rotation SET owner = replace(owner, ?, ?) WHERE environment = ?"
                " AND secret = ? AND state IN ('live', 'stuck')",
                (f"/{os.getpid()}/", f"/{self._dead_pid}/", ref.environment, ref.name),
            )

    def begin(self, ref, version):
        made = self.store.current_versions(ref.environment, [ref.name])[ref.name].created_at
        self.seen.begun.append(
            Begun(ref, version, self.passed(), self.clock.now(), self.offset, made)
        )

    def saw(self, ref, progress):
        if progress.event != "done":
            return
        if progress.step is Step.CREATE:
            self.seen.made[ref, self.store.state(ref).pending] = self.passed()
        if progress.step is Step.PROMOTE:
            self.seen.promoted[ref, self.store.state(ref).current] = self.passed()

    # --- time ---------------------------------------------------------------------------

    def run(self, days=365):
        """Let *days* pass, with two tickers every hour or so."""
        frozen_since: dict[str, timedelta] = {}
        for number in itertools.count():
            # Timers are not exact, and a run takes its time.
            target = number * TICK + timedelta(minutes=self.random.random() * 5)
            if target >= days * DAY:
                break
            late = target - self.passed()
            if late > timedelta(0):
                self.clock.advance(late.total_seconds())
            self._set_clock()
            self._watch_freezes(frozen_since)
            if not any(t.kind == "off" and t.holds(self.passed()) for t in self.troubles):
                self.tick_twice(at_the_same_time=number % 12 == 0)
        return self.seen

    def _set_clock(self):
        offset = sum(
            (t.offset for t in self.troubles if t.kind == "clock" and t.holds(self.passed())),
            timedelta(0),
        )
        if offset != self.offset:
            self.clock.step((offset - self.offset).total_seconds())
            self.offset = offset

    def _watch_freezes(self, since):
        for name in self.manifest.environments:
            if self.is_frozen(name, self.clock.now()):
                since.setdefault(name, self.passed())
            elif name in since:
                self.seen.frozen[name].append((since.pop(name), self.passed()))

    def is_frozen(self, environment, wall):
        """Tell whether a window covers *wall*, one by one."""
        where = self.manifest.environment(environment)
        return any(window.covers(wall, zone(where.timezone)) for window in where.freeze)

    def tick_twice(self, *, at_the_same_time):
        """Let two tickers look at the same moment, then act, together or one by one."""
        self.seen.ticks += 2
        environments = list(self.manifest.environments)
        look = judge_all(self, environments)
        runs = [lambda: self.act(look)] * 2
        if not at_the_same_time:
            for run in runs:
                run()
            return
        threads = [threading.Thread(target=run) for run in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def act(self, look):
        jobs = sorted((each for each in look if each.to_do), key=lambda each: each.ref)
        ticker = Ticker()
        for ended in carry_out(jobs, lambda: YearWorker(self, ticker), at_once=1):
            self.seen.ends[ended.end if not ended.text else f"{ended.end} {ended.text}"[:40]] += 1

    def close(self):
        self.database.close()

    # --- judgement ----------------------------------------------------------------------

    def lives(self):
        """Yield (secret, version, when it was made, how old it became, whether it was replaced)."""
        used = defaultdict(list)
        for (ref, version), moment in self.seen.promoted.items():
            used[ref].append((moment, version))
        for ref, found in used.items():
            found.sort()
            for (_, version), (end, _) in itertools.pairwise([*found, (self.passed(), 0)]):
                made = self.seen.made[ref, version]
                yield ref, version, made, end - made, version != found[-1][1]

    def pair_of(self, ref):
        return self.manifest.secret_in(ref.environment, ref.name).pair

    def max_age(self, ref):
        return self.manifest.secret_in(ref.environment, ref.name).max_age

    def strange(self, moment):
        """Tell whether the clock was more than a day off at *moment*."""
        return self.strange_between(moment, moment)

    def strange_between(self, start, end):
        """Tell whether the clock was more than a day off at some time from *start* to *end*."""
        return any(
            t.kind == "clock"
            and abs(t.offset) > DAY
            and start < t.end * DAY
            and end >= t.start * DAY
            for t in self.troubles
        )

    def longest(self, environment):
        """Return how long a secret of *environment* may be kept waiting in the worst case."""
        freezes = [end - start for start, end in self.seen.frozen[environment]]
        lengths = defaultdict(list)
        for trouble in self.troubles:
            lengths[trouble.kind].append((trouble.end - trouble.start) * DAY)
        down = max(lengths["outage"] + lengths["denied"], default=timedelta(0))
        return max(freezes, default=timedelta(0)) + down + max(lengths["off"], default=0 * DAY)


def manifest_of(count: int) -> str:
    """Return a manifest of *count* secrets; the first twenty are ten pairs."""
    ages, graces = ("30d", "45d", "90d", "180d"), ("0s", "1h", "24h")
    lines = [HEAD]
    for number in range(count):
        lines.append(f'[secrets.s{number:03}]\nkind = "generated"')
        lines.append(f'variable = "S_{number}"\nmax_age = "{ages[number % 4]}"')
        lines.append(f'grace = "{graces[number % 3]}"')
        if number < 20:
            lines.append(f'pair = "pair-{number // 2}"')
        elif number % 50 == 0:
            lines.append('depends_on = ["s001"]')
    return "\n".join(lines) + "\n"


def current_value(year: Year, ref: SecretRef) -> bytes:
    """Return the bytes of what is current."""
    return year.store.read(ref, Stage.CURRENT).values[VALUE].reveal()


@contextmanager
def a_year(folder: Path, **options):
    """Make a year, and let go of its files afterwards."""
    year = Year(folder, **options)
    try:
        yield year
    finally:
        year.close()


def problems(year: Year) -> list[str]:
    """Return what went wrong in *year*: what a person would have to be told of."""
    return [
        *_twice(year),
        *_missed(year),
        *_pairs(year),
        *_frozen(year),
        *_left_over(year),
    ]


def _twice(year):
    replaced = {(ref, version) for ref, version, _, _, was in year.lives() if was}
    for begun in year.seen.begun:
        # By the clock of that moment it was due, or it was of a time that never came.
        early = begun.made_wall + year.max_age(begun.ref) * 0.95 - begun.wall
        if early > timedelta(0) and begun.made_wall - begun.wall <= DAY:
            yield f"{begun.ref} was begun {early} too early"
    for (ref, version), found in _by_version(year).items():
        failed = found[:-1] if (ref, version) in replaced else found
        if not all(_had_trouble(year, begun) for begun in failed):
            yield f"{ref} version {version} was begun twice"
    for ref, version, made, age, was_replaced in year.lives():
        # A clock that is a day ahead takes a day off.
        young = age < year.max_age(ref) * 0.95 - DAY
        if was_replaced and young and not year.strange_between(made, made + age):
            yield f"{ref} version {version} was replaced after {age}"


def _by_version(year):
    found = defaultdict(list)
    for begun in year.seen.begun:
        found[begun.ref, begun.version].append(begun)
    return found


def _had_trouble(year, begun):
    """Tell whether its target was down while it ran, or what it runs in at the end of the year."""
    return any(
        trouble.part == year.parts[begun.ref]
        and trouble.kind in ("outage", "denied")
        and trouble.holds(begun.passed)
        for trouble in year.troubles
    ) or begun.ref in {rotation.ref for rotation in year.journal.all_live()}


def _missed(year):
    for ref, version, _, age, _ in year.lives():
        allowed = year.max_age(ref) + year.longest(ref.environment) + LONGEST_PAUSE + TICK
        if year.pair_of(ref) is not None:
            # Its partner may have to go first, through the same.
            allowed += PAIR_DISTANCE + DAY
        # A clock that was a day ahead when it was made lets it live a day longer.
        if age > allowed + DAY:
            yield f"{ref} version {version} became {age} old"


def _pairs(year):
    of_pair = defaultdict(list)
    for found in _by_version(year).values():
        pair = year.pair_of(found[-1].ref)
        if pair is not None:
            of_pair[found[-1].ref.environment, pair].append(found[-1])
    for found in of_pair.values():
        for one, other in itertools.pairwise(sorted(found, key=lambda begun: begun.passed)):
            if one.ref == other.ref or year.strange_between(one.passed, other.passed):
                continue
            # A clock that is a day ahead at one of them cannot be told from a day passed.
            stepped = abs(one.offset - other.offset)
            if other.passed - one.passed < PAIR_DISTANCE - stepped:
                yield f"{one.ref} and {other.ref} were {other.passed - one.passed} apart"


def _frozen(year):
    for begun in year.seen.begun:
        if year.is_frozen(begun.ref.environment, begun.wall):
            yield f"{begun.ref} was begun in a freeze: {begun.wall}"


def _left_over(year):
    opened = {rotation.ref: rotation for rotation in year.journal.all_live()}
    for ref, rotation in opened.items():
        if year.clock.now() - rotation.started_at > year.longest(ref.environment) + 3 * DAY:
            yield f"the rotation of {ref} is open since {rotation.started_at}"
    for ref, target in year.targets.items():
        if current_value(year, ref) not in target.accepted:
            yield f"{ref} is refused by its target"
        if len(target.accepted) > 1 and ref not in opened:
            yield f"{ref} left {len(target.accepted)} credentials behind"
