"""What the executables in tests/root have in common: what they need, how they end, how outcomes are told."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from .namespace import LabError

# The packages of Debian in which the tools are.
TOOLS = {"ip": "iproute2", "nft": "nftables", "miniupnpd": "miniupnpd-nftables"}

FAILED, NEEDS = 1, 2


class Failed(Exception):
    """Something does not hold; the message says what."""


def need(*tools: str) -> None:
    """Says what is missing here for a laboratory, if anything is."""
    if os.geteuid() != 0:
        raise LabError("network namespaces need root; run this as root")
    for tool in ("ip", "nft", *tools):
        if shutil.which(tool) is None:
            raise LabError(f"{tool} is missing; install the package {TOOLS[tool]}")
    if not Path("/dev/net/tun").exists():
        raise LabError("/dev/net/tun is missing; links with delay are made of TAP devices")


def main(tests: list[Callable[[], None]], limit: int, tools: tuple[str, ...] = ()) -> None:
    """Runs tests, each named by a sentence, those that are named as arguments or all, and exits: with 0 if all hold,
    with 1 if one does not, with 2 if they could not run, which is no success either. `limit` is in seconds, for each."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGALRM, _too_long)
    wanted = [test for test in tests if not sys.argv[1:] or test.__name__ in sys.argv[1:]]
    if not wanted:
        print(f"there is no such test; there are {', '.join(test.__name__ for test in tests)}", file=sys.stderr)
        sys.exit(NEEDS)
    try:
        need(*tools)
    except LabError as error:
        print(f"not run, and not passed: {error}", file=sys.stderr)
        sys.exit(NEEDS)
    broken = 0
    for test in wanted:
        began = time.monotonic()
        signal.alarm(limit)
        try:
            test()
            outcome = "ok"
        except (Failed, LabError) as error:
            broken += 1
            outcome = f"FAILED: {error}"
        except Exception:  # a mistake in the test: it has to be told, and the other tests run
            broken += 1
            outcome = f"FAILED: {traceback.format_exc()}"
        signal.alarm(0)
        print(f"{test.__name__.replace('_', ' ')} ({time.monotonic() - began:.0f} s) ... {outcome}", flush=True)
    sys.exit(FAILED if broken else 0)


def _too_long(*_: object) -> None:
    raise Failed("it took too long, and was ended")


def expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


def table(head: list[str], rows: list[list[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def save(name: str, text: str) -> None:
    """Writes what was measured into the directory $NATLAB_RESULTS, if there is one."""
    if directory := os.environ.get("NATLAB_RESULTS"):
        (Path(directory) / name).write_text(text + "\n")


def median(values: list[float]) -> float:
    return percentile(values, 50)


def percentile(values: list[float], share: float) -> float:
    """The least value that is not less than this share, in percent, of all."""
    if not values:
        raise Failed("nothing was measured")
    place = max(0, -(-len(values) * share // 100) - 1)
    return sorted(values)[int(place)]
