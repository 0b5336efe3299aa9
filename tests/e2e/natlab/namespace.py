"""One network namespace, and the processes in it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .cable import enter_namespace

NAMESPACES = Path("/run/netns")

# Processes that were told to end have so long; then they are killed.
END_SECONDS = 3


class LabError(Exception):
    """The laboratory itself failed; the message says what to do."""


class Namespace:
    """A namespace that was made by this program. `remove` it."""

    def __init__(self, name: str) -> None:
        self.name = name
        _checked(["ip", "netns", "add", name])
        # Only IPv4, unless `with_v6` is called: a second family would make outcomes depend on which one was faster.
        self.settings({"ipv6/conf/all/disable_ipv6": 1})
        self.ip("link set lo up")

    def ip(self, *commands: str) -> None:
        """Runs commands of `ip`, one after the other; the first that fails ends it."""
        _checked(["ip", "-n", self.name, "-batch", "-"], "\n".join(commands) + "\n")

    def nft(self, rules: str) -> None:
        """Applies rules of nftables as a whole."""
        _checked(self.inside("nft", "-f", "-"), rules)

    def settings(self, values: dict[str, object]) -> None:
        """Writes to /proc/sys/net; what this kernel does not have is an error."""
        lines = [f"echo {value} > /proc/sys/net/{name}" for name, value in values.items()]
        _checked(self.inside("sh", "-ec", "\n".join(lines)))

    def with_v6(self) -> None:
        """From now on interfaces here have IPv6. Addresses are used at once: nobody else has them."""
        self.settings({"ipv6/conf/all/disable_ipv6": 0, "ipv6/conf/all/accept_dad": 0, "ipv6/conf/default/accept_dad": 0})

    def inside(self, *command: str) -> list[str]:
        """The command as one that runs in this namespace."""
        return ["ip", "netns", "exec", self.name, *command]

    def output(self, *command: str) -> str:
        return _checked(self.inside(*command))

    def start(self, *command: str, **options: object) -> subprocess.Popen:
        """Starts a process here. It gets a session of its own, so that Ctrl-C reaches only the one who started it."""
        return subprocess.Popen(self.inside(*command), start_new_session=True, **options)

    def within(self, action: Callable[[], None]) -> None:
        """Runs an action here, in a thread of its own, as a thread can be in another namespace than its process."""
        failed: list[BaseException] = []

        def enter() -> None:
            try:
                enter_namespace(self.name)
                action()
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise LabError(f"{self.name}: {failed[0]}") from failed[0]

    def remove(self) -> None:
        """Ends what runs here, and removes the namespace."""
        remove(self.name)


def remove(name: str) -> None:
    """Ends what still runs in a namespace, and removes it. One that is not there is none to remove."""
    if not (NAMESPACES / name).exists():
        return
    _end(name)
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def leftovers(prefix: str) -> list[str]:
    """The namespaces whose names begin so."""
    if not NAMESPACES.is_dir():
        return []
    return sorted(path.name for path in NAMESPACES.iterdir() if path.name.startswith(prefix))


def _processes(name: str) -> list[int]:
    listed = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split() if int(pid) != os.getpid()]


def _end(name: str) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + END_SECONDS
        pids = _processes(name)
        for pid in pids:
            try:
                os.kill(pid, kind)
            except ProcessLookupError:
                pass
        while pids and time.monotonic() < until:
            time.sleep(0.02)
            pids = _processes(name)
        if not pids:
            return


def _checked(command: list[str], stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip() or f"exit status {done.returncode}"
        raise LabError(f"{' '.join(command)} failed: {reason}" + (f"\nits input was:\n{stdin}" if stdin else ""))
    return done.stdout
