"""
How long it takes to rotate every secret of the worked example, while it is used.

    .venv/bin/python bench/rotate_all.py [--times N]

Starts PostgreSQL, Redis, OpenBao, and simulators of OpenAI, SendGrid, Stripe, Twitch and
OpenSearch; fills a copy of `examples/clipper`, starts its backend by `keyturn run`, and
has four users make requests that need the database, the cache, tokens, sessions and
encrypted rows. Then `keyturn rotate --all --now`, as a person types it, and the two
secrets that only a person can fetch, with the new value at hand.

Prints how long each took, how many requests were refused, and how many old credentials
the systems themselves still accept; ends with 1 where either is not 0. A simulator
answers at once: at a vendor, add the time of some dozen requests there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.worlds.clipper import AUTOMATIC, USERS, ClipperWorld, Visits

BOUND_SECONDS = 30
# What the scripts and pages of the usual guide do instead: a script of fixed sleeps, scripts
# that store a new value and restart the service, and what stands there as steps by hand.
USUALLY = {
    "db": "sleeps 5 + 10 s",
    "jwt": "restart, every token ends",
    "openai": "pasted, restart",
    "stripe": "pasted, restart",
    "twitch": "pasted, restart",
}


def measure(world: ClipperWorld) -> bool:
    world.fill()
    world.run_backend()
    before = world.delivered()
    with Visits(world.port) as visits:
        visits.more(USERS * 6)
        asked = visits.requests
        ended = world.rotate_all("--json")
        asked = visits.requests - asked
        person = {"twitch": world.rotate_twitch(), "stripe": world.rotate_stripe()}
        visits.more(USERS)
    if ended.code != 0:
        raise SystemExit(ended.err)
    print(f"{'secret':16} {'kind':22} {'seconds':>8}  usually")
    for each in ended.document["secrets"]:
        if each["end"] == "done":
            name = each["secret"]
            line(name, AUTOMATIC[name], each["seconds"], USUALLY.get(name, "by hand"))
    line("rotate --all", f"{len(AUTOMATIC)} secrets", ended.seconds, "")
    for name, kind in (("twitch", "twitch-app"), ("stripe", "stripe-key")):
        line(name, kind, person[name].seconds, USUALLY[name])
    alive = sorted(name for name, works in world.works(before).items() if works)
    refused = visits.refused.total()
    print(f"{asked} requests meanwhile, {visits.requests} in all, {refused} refused")
    for reason, count in visits.refused.items():
        print(f"  {count} x {reason}")
    print(f"old credentials that still work: {', '.join(alive) or 'none'}")
    return not refused and not alive and ended.seconds <= BOUND_SECONDS


def line(name: str, kind: str, seconds: float, usually: str) -> None:
    print(f"{name:16} {kind:22} {seconds:8.2f}  {usually}".rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--times", type=int, default=1)
    good = True
    for _ in range(parser.parse_args().times):
        folder = Path(tempfile.mkdtemp(prefix="kt-"))
        # The database's own user must reach its files.
        folder.chmod(0o711)
        world = ClipperWorld(folder)
        try:
            good = measure(world) and good
        finally:
            world.close()
            shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
