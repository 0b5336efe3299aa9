"""Real nodes for the tests: starts `kad-node run` several times, and runs the other commands of `kad-node`.

The program is $KAD_NODE. Every wait here ends: with the event, or with an error that says what was waited for.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nkad.wire import Contact, Socket

START_SECONDS = 20
STOP_SECONDS = 10
COMMAND_SECONDS = 60


@dataclass
class Daemon:
    process: subprocess.Popen
    contact: Contact

    @property
    def socket(self) -> Socket:
        return self.contact.address[0]

    @property
    def bootstrap(self) -> str:
        """How other nodes are told of this one: ID@HOST:PORT."""
        return f"{self.contact.id.hex()}@{self.socket.ip}:{self.socket.port}"


class Daemons:
    """A network of nodes on this machine, each of which was told of the first. `stop` it."""

    def __init__(self) -> None:
        self.program = os.environ["KAD_NODE"]
        self._directory = tempfile.TemporaryDirectory(prefix="nkad-")
        self.directory = Path(self._directory.name)
        # No settings of the one who runs the tests may leak in.
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("KAD_", "XDG_"))
        } | {"HOME": self._directory.name}
        self.nodes: list[Daemon] = []

    def start(self, count: int) -> None:
        for _ in range(count):
            self.nodes.append(self._start_one())

    def _start_one(self) -> Daemon:
        command = [self.program, "run", "--listen", "127.0.0.1:0", "--json"]
        if self.nodes:
            command += ["--bootstrap", self.nodes[0].bootstrap]
        log = self.directory / f"node-{len(self.nodes)}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=self.environment)
        try:
            started = json.loads(_first_line(process, log))
            host, port = started["addresses"][0].rsplit(":", 1)
            return Daemon(process, Contact(bytes.fromhex(started["id"]), (Socket.of(host, int(port)),)))
        except BaseException:
            _end(process)
            raise

    def stop(self) -> None:
        for node in self.nodes:
            node.process.terminate()
        for node in self.nodes:
            _end(node.process)
        self._directory.cleanup()

    async def command(self, *arguments: str, status: int = 0, stdin: bytes = b"") -> dict:
        """Runs `kad-node` with --json, and returns what it says. Raises AssertionError at another exit status."""
        process = await asyncio.create_subprocess_exec(
            self.program,
            *arguments,
            "--json",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(stdin), COMMAND_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = output.decode()
        assert process.returncode == status, f"{arguments} ended with {process.returncode}: {text}{errors.decode()}"
        return json.loads(text.splitlines()[-1])

    async def ask(self, *arguments: str, status: int = 0, stdin: bytes = b"") -> dict:
        """A command that takes part in the network through the first node."""
        return await self.command(*arguments, "--bootstrap", self.nodes[0].bootstrap, status=status, stdin=stdin)


def _first_line(process: subprocess.Popen, log: Path) -> bytes:
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else b""
    if not line:
        raise RuntimeError(f"a node said nothing within {START_SECONDS} s; its log: {log.read_text()}")
    return line


def _end(process: subprocess.Popen) -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
