"""Two nodes behind routers: one listens, the other connects to it by its id, and has what it sends sent back."""

from __future__ import annotations

import json
import os
import select
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from .lab import Client
from .namespace import Namespace
from .nodes import END_SECONDS, NETWORK, Process, kad_node
from .tests import Failed, expect

# What is sent to begin with, and in all.
FIRST_BYTES = 1024
MEGABYTE = 1 << 20

# A listener that has joined has told of its card by then, however slow the links are.
READY_SECONDS = 30

# How lines begin that `kad-node connect` and `kad-node listen` write to standard error.
LISTENING, CONNECTED, DIRECT = "listening", "connected", "direct now"


class Keys:
    """Key files for the nodes of a test, made beforehand so that ids are known. A context."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="natlab-")
        self._made = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Keys:
        return self

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    def new(self, where: Namespace) -> tuple[str, str]:
        """A key file and its id."""
        with self._lock:
            self._made += 1
            path = str(Path(self._directory.name) / f"{self._made}.key")
        said = json.loads(where.output(kad_node(), "key", "new", "--out", path, "--json"))
        return path, said["id"]


class Listener(Process):
    """`kad-node listen`, whose output is its input: who connects gets back what they send."""

    def __init__(self, client: Client, bootstrap: list[str], keys: Keys, *options: str) -> None:
        key, self.id = keys.new(client.namespace)
        super().__init__(
            client.namespace, kad_node(), "listen", *_network(bootstrap), "--key", key, *options, log="info", raw=True
        )
        threading.Thread(target=self._send_back, daemon=True).start()

    def ready(self) -> Listener:
        """Waits until others can find it."""
        if not self.errors.wait(lambda line: LISTENING in line, READY_SECONDS):
            raise Failed(f"nobody can find the listener: {self.said()}")
        return self

    def _send_back(self) -> None:
        try:
            while data := os.read(self.process.stdout.fileno(), 1 << 16):
                _write(self.process.stdin.fileno(), data)
            self.process.stdin.close()
        except (OSError, ValueError):  # it has ended
            pass


@dataclass
class Outcome:
    """What came of a connection. Times are in milliseconds since `kad-node connect` was started, but for those that it
    tells itself."""

    bytes: int = 0
    first_byte_ms: float | None = None
    direct: bool = False
    lines: list[str] = field(default_factory=list)
    report: dict = field(default_factory=dict)
    status: int | None = None
    reason: str = ""


class Connector(Process):
    """`kad-node connect` to an id."""

    def __init__(self, client: Client, bootstrap: list[str], to: str, *options: str) -> None:
        super().__init__(
            client.namespace, kad_node(), "connect", to, *_network(bootstrap), "--json", *options, raw=True
        )
        os.set_blocking(self.process.stdin.fileno(), False)

    def exchange(self, data: bytes, seconds: float) -> int:
        """Sends it while what comes back is read and compared. Returns how many bytes came back: less if the process
        ended or the time did."""
        sent, back, until = 0, 0, time.monotonic() + seconds
        out, into = self.process.stdin.fileno(), self.process.stdout.fileno()
        while back < len(data) and (left := until - time.monotonic()) > 0:
            readable, writable, _ = select.select([into], [out] if sent < len(data) else [], [], left)
            try:
                if writable:
                    sent += os.write(out, data[sent : sent + (1 << 16)])
                if readable:
                    got = os.read(into, 1 << 16)
                    if not got:
                        break
                    expect(got == data[back : back + len(got)], f"other bytes came back, behind {back}")
                    back += len(got)
            except BlockingIOError:
                pass
            except BrokenPipeError:
                break
        return back

    def wait_for(self, word: str, seconds: float) -> float | None:
        """When a status line with this word came, in milliseconds since the start; none if it did not."""
        found = self.errors.wait(lambda line: word in line, seconds)
        return None if found is None else (found[0] - self.began) * 1000

    def finish(self, seconds: float = END_SECONDS) -> tuple[int, dict]:
        """Ends the connection in order: the exit status, and what it has to report."""
        self.process.stdin.close()
        rest, until = b"", time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and select.select([self.process.stdout], [], [], left)[0]:
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                break
            rest += data
        status = self.wait(seconds)
        self.errors._thread.join(END_SECONDS)
        lines = rest.decode(errors="replace").splitlines() + [text for _, text in self.errors.all()]
        reports = [line for line in lines if line.startswith("{")]
        return status, json.loads(reports[-1]) if reports else {}


def converse(connector: Connector, direct_seconds: float, size: int = MEGABYTE, seconds: float = 60) -> Outcome:
    """A first kilobyte at once, the rest when the path is direct, or when there was time for it to become so."""
    outcome, data = Outcome(), os.urandom(size)
    outcome.bytes = connector.exchange(data[:FIRST_BYTES], seconds)
    if outcome.bytes == FIRST_BYTES:
        outcome.first_byte_ms = (time.monotonic() - connector.began) * 1000
        connector.wait_for(DIRECT, direct_seconds)
        outcome.bytes += connector.exchange(data[FIRST_BYTES:], seconds)
    outcome.status, outcome.report = connector.finish(seconds if outcome.bytes == 0 else END_SECONDS)
    outcome.lines = [text for _, text in connector.errors.all()]
    outcome.direct = any(DIRECT in line for line in outcome.lines)
    outcome.reason = str(outcome.report.get("error", "")) or (outcome.lines[-1] if outcome.lines else "")
    return outcome


def _network(bootstrap: list[str]) -> list[str]:
    return ["--network", NETWORK, *(word for peer in bootstrap for word in ("--bootstrap", peer))]


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
