"""Two nodes behind routers: one listens, the other connects to it by its id, and has what it sends sent back."""

from __future__ import annotations

import json
import os
import re
import select
import tempfile
import threading
import time
from dataclasses import dataclass
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

# What `kad-node connect` writes to standard error when the path has become direct, unless it is asked for JSON.
DIRECT = "direct now"

# The flag with which both ends try many ports where punching fails.
BIRTHDAY = "--birthday-punching"

# What listeners log, and the line of it that tells of a card with which they can be reached.
LOG = os.environ.get("NATLAB_LOG", "info,kad_node::card=debug")
# What connectors log: nothing, so that all they write is theirs.
CONNECTOR_LOG = os.environ.get("NATLAB_CONNECTOR_LOG", "")
CARD = re.compile(r"the card of this node is written.*(relays=.?[0-9;m[]*[1-9]|candidates=.*serves)")

# The kind of a path that goes through a relay, in the report of `kad-node connect --json`. All others are direct.
RELAYED = "relayed"


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
    """`kad-node listen`, whose output is its input: who connects gets back what they send, until `hang_up`."""

    def __init__(self, client: Client, bootstrap: list[str], keys: Keys, *options: str) -> None:
        key, self.id = keys.new(client.namespace)
        super().__init__(
            client.namespace, kad_node(), "listen", *_network(bootstrap), "--key", key, *options, log=LOG, raw=True
        )
        threading.Thread(target=self._send_back, daemon=True).start()

    def ready(self) -> Listener:
        """Waits until others can find and reach it: it has said so in a card."""
        if not self.errors.wait(CARD.search, READY_SECONDS):
            raise Failed(f"nobody can reach the listener: {self.said()}")
        return self

    def hang_up(self) -> None:
        """It sends nothing any more."""
        self.process.stdin.close()

    def _send_back(self) -> None:
        try:
            while data := os.read(self.process.stdout.fileno(), 1 << 16):
                _write(self.process.stdin.fileno(), data)
        except (OSError, ValueError):  # it has ended
            pass


@dataclass
class Outcome:
    """What came of a connection."""

    # How many came back.
    bytes: int
    status: int
    # What `kad-node connect --json` reports: times are in milliseconds since it began to look for the peer.
    report: dict

    @property
    def path(self) -> str:
        """The kind of path that was in use in the end."""
        paths = self.report.get("paths") or [{}]
        return paths[-1].get("kind") or "none"

    @property
    def is_direct(self) -> bool:
        return self.path not in (RELAYED, "none")

    @property
    def reason(self) -> str:
        """Why it failed."""
        return self.report.get("error") or f"no reason was given; the report is {self.report}"


class Connector(Process):
    """`kad-node connect` to an id. With `json` it is silent until it reports at the end; else it tells of each path."""

    def __init__(self, client: Client, bootstrap: list[str], to: str, *options: str, json: bool = True) -> None:
        how = ["--json"] if json else []
        command = [kad_node(), "connect", to, *_network(bootstrap), *how, *options]
        super().__init__(client.namespace, *command, log=CONNECTOR_LOG, raw=True)
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

    def finish(self, listener: Listener, seconds: float = END_SECONDS) -> tuple[int, dict]:
        """Ends the connection in order, at both ends: the exit status, and what it has to report."""
        self.process.stdin.close()
        listener.hang_up()
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


def converse(
    connector: Connector, listener: Listener, direct_seconds: float, size: int = MEGABYTE, seconds: float = 60
) -> Outcome:
    """A first kilobyte at once, and the rest when there was time for the path to become direct."""
    data = os.urandom(size)
    back = connector.exchange(data[:FIRST_BYTES], seconds)
    if back == FIRST_BYTES:
        time.sleep(direct_seconds)
        back += connector.exchange(data[FIRST_BYTES:], seconds)
    status, report = connector.finish(listener, END_SECONDS if back else seconds)
    return Outcome(back, status, report)


def _network(bootstrap: list[str]) -> list[str]:
    return ["--network", NETWORK, *(word for peer in bootstrap for word in ("--bootstrap", peer))]


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
