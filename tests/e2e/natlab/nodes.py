"""kad-node in the laboratory: processes in namespaces, and what they say.

The program is $KAD_NODE, or `kad-node` on the path; the public network is the example of that name beside it. Every
wait here ends: with what was waited for, or with an error that says what that was, and what the process said last.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .lab import Lab
from .namespace import LabError, Namespace
from .tests import Failed

NETWORK = "natlab"
PORT = 4000

# What the log of a daemon says when its role changes.
SERVES, ASKS = "this node serves from now on", "this node only asks from now on"

# A node in a release build starts at once; a debug build with a hundred nodes takes its time.
START_SECONDS = 120
END_SECONDS = 5

# Lines that are kept of each output; those that come later are dropped.
MAX_LINES = 50_000

# How much of what a process said is told when it failed.
TOLD_LINES = 12


def kad_node() -> str:
    found = os.environ.get("KAD_NODE") or shutil.which("kad-node")
    if not found or not Path(found).exists():
        raise LabError("there is no kad-node; run `cargo build --release -p kad-node`, and set KAD_NODE or PATH")
    return str(Path(found).resolve())


def example(name: str) -> str:
    found = Path(kad_node()).parent / "examples" / name
    if not found.exists():
        raise LabError(f"there is no {found}; run `cargo build --release -p kad-node --example {name}`")
    return str(found)


class Lines:
    """What comes out of a stream, line by line, with the time at which it came."""

    def __init__(self, stream) -> None:
        self.stream, self.ended = stream, False
        self._lines: list[tuple[float, str]] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self.stream:
            with self._changed:
                if len(self._lines) < MAX_LINES:
                    self._lines.append((time.monotonic(), line.decode(errors="replace").rstrip("\n")))
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def all(self) -> list[tuple[float, str]]:
        with self._changed:
            return list(self._lines)

    def wait(self, fits: Callable[[str], bool], seconds: float, begin: int = 0) -> tuple[float, str] | None:
        """The first line that fits, from number `begin` on; none if the time or the stream ends before."""
        until, looked = time.monotonic() + seconds, begin
        with self._changed:
            while True:
                for found in self._lines[looked:]:
                    if fits(found[1]):
                        return found
                looked = len(self._lines)
                left = until - time.monotonic()
                if self.ended or left <= 0:
                    return None
                self._changed.wait(left)

    def last(self) -> str:
        return "\n".join(text for _, text in self.all()[-TOLD_LINES:])


class Process:
    """A process in a namespace; a context: it is ended when that ends. Standard output is read in lines, unless it is
    for the caller (`raw`)."""

    def __init__(self, where: Namespace, *command: str, log: str = "", raw: bool = False) -> None:
        self.command = command
        # No settings of the one who runs the tests may leak in.
        foreign = ("KAD_", "XDG_", "RUST_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        if log:
            environment["RUST_LOG"] = log
        pipe = subprocess.PIPE
        self.process = where.start(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, bufsize=0)
        self.began = time.monotonic()
        self.out = None if raw else Lines(self.process.stdout)
        self.errors = Lines(self.process.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait(self, seconds: float) -> int:
        """The exit status."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.called()} did not end within {seconds} s; {self.said()}") from None

    def said(self) -> str:
        # What was said last may still be on its way through the pipe.
        for lines in (self.out, self.errors):
            if lines and self.process.poll() is not None:
                lines._thread.join(END_SECONDS)
        return f"it said: {self.out.last() if self.out else ''}\n{self.errors.last()}"

    def called(self) -> str:
        return " ".join([Path(self.command[0]).name, *self.command[1:3]])

    def first_line(self, seconds: float = START_SECONDS) -> dict:
        found = self.out.wait(lambda _: True, seconds)
        if found is None:
            raise Failed(f"{self.called()} did not start; {self.said()}")
        return json.loads(found[1])

    def kill(self) -> None:
        """Without any goodbye."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            # A reader that still has the stream closes it when it is done.
            if stream and not (stream is not self.process.stdin and _is_read(self, stream)):
                try:
                    stream.close()
                except OSError:
                    pass


def _is_read(process: Process, stream) -> bool:
    readers = [lines for lines in (process.out, process.errors) if lines and lines.stream is stream]
    return any(not lines.ended for lines in readers)


class PublicNetwork(Process):
    """Public nodes in one process, which know each other, each on its own address; in a lab with IPv6 on one of each
    family, but for `v4_only` of them."""

    def __init__(self, lab: Lab, count: int, *options: str, v4_only: int = 0) -> None:
        public = lab.public(count)
        addresses = [f"{address}:{PORT}" for address in public]
        if lab.v6:
            # Spread over the sites, and not the first, which others are told to begin with.
            step = count // v4_only if v4_only else count + 1
            both = [place for place in range(count) if place % step != step - 1]
            for place, beside in zip(both, lab.public_v6([public[place] for place in both])):
                addresses[place] += f",[{beside}]:{PORT}"
        super().__init__(lab.internet, example("public_network"), "--network", NETWORK, *options, *addresses)
        self.bootstrap: list[str] = self.first_line()["bootstrap"]


class Daemon(Process):
    """`kad-node run`, somewhere."""

    def __init__(self, where: Namespace, bootstrap: list[str], *options: str, listen: str = "0.0.0.0:0") -> None:
        known = [word for peer in bootstrap for word in ("--bootstrap", peer)]
        command = ["run", "--network", NETWORK, "--listen", listen, "--json", *known, *options]
        super().__init__(where, kad_node(), *command, log="info")
        started = self.first_line()
        self.id: str = started["id"]
        self.address: str = started["addresses"][0]
        # Until it has found out otherwise, a node of the internet only asks.
        self.role: str = started.get("role", "client")

    def roles(self) -> list[tuple[float, str]]:
        """Its roles so far, with the seconds after its start."""
        roles = [(0.0, self.role)]
        for at, line in self.errors.all():
            for role, words in (("server", SERVES), ("client", ASKS)):
                if words in line:
                    roles.append((at - self.began, role))
        return roles

    def reports(self) -> list[dict]:
        """What it has told with --report so far."""
        said = [json.loads(text) for _, text in self.out.all()]
        return [line["report"] for line in said if "report" in line]


def ask(where: Namespace, bootstrap: list[str], *arguments: str, stdin: bytes = b"", seconds: float = 60) -> dict:
    """A command that takes part in the network for a moment; what it says in JSON, and its exit status as `status`."""
    known = [word for peer in bootstrap for word in ("--bootstrap", peer)]
    with Process(where, kad_node(), *arguments, "--network", NETWORK, "--json", *known) as process:
        try:
            process.process.stdin.write(stdin)
        except BrokenPipeError:  # it has ended already, and says why
            pass
        process.process.stdin.close()
        status = process.wait(seconds)
        process.out._thread.join(END_SECONDS)
        lines = process.out.all()
        if not lines:
            raise Failed(f"{process.called()} ended with {status}; {process.said()}")
        return json.loads(lines[-1][1]) | {"status": status}
