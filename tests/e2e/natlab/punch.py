"""Punching without kad-node: that shows what the lab does, whatever kad-node makes of it.

    punch.py server IP IP IP                        on three public addresses
    punch.py client IP IP IP NAME PEER [options]    behind a router; prints one line of JSON

The client first finds out what its NAT does, as RFC 5780 describes it: the mapping from what three destinations see,
the filtering from who gets through without having been sent anything. Then it asks the server for its peer, and
punches. A success is when a packet of the peer arrived, and the peer says that ours did.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import time

# What is asked, and what then calls uninvited: another port of a host that was asked, and another host.
PORT, OTHER_PORT, UNINVITED_PORT = 3478, 3479, 3480


def udp(address: tuple[str, int]) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(address)
    opened.setblocking(False)
    return opened


def send(out: socket.socket, message: dict, to: list | tuple) -> None:
    try:
        out.sendto(json.dumps(message).encode(), tuple(to))
    except OSError:  # as good as lost
        pass


def received(sockets: list[socket.socket], timeout: float):
    for ready in select.select(sockets, [], [], max(0, timeout))[0]:
        try:
            data, source = ready.recvfrom(2048)
            yield ready, json.loads(data), source
        except (OSError, ValueError):
            pass


def asked_addresses(ips: list[str]) -> list[tuple[str, int]]:
    return [(ips[0], PORT), (ips[0], OTHER_PORT), (ips[2], PORT)]


def server(ips: list[str]) -> None:
    asked = [udp(address) for address in asked_addresses(ips)]
    strangers = {"same-host": udp((ips[0], UNINVITED_PORT)), "other-host": udp((ips[1], PORT))}
    known, told = {}, set()
    print("ready", flush=True)
    while True:
        for at, message, source in received(asked, 1):
            match message["op"]:
                case "observe":
                    send(at, {"op": "observed", "address": source, "by": asked.index(at)}, source)
                case "call":
                    for name, stranger in strangers.items():
                        send(stranger, {"op": "called", "from": name}, source)
                case "join":
                    known[message["name"]] = (source, at)
                    peer = known.get(message["peer"])
                    if peer:  # both are here: tell both, at the same moment
                        send(at, {"op": "go", "address": peer[0]}, source)
                        if message["name"] not in told:  # who joins again did not get the answer
                            send(peer[1], {"op": "go", "address": source}, peer[0])
                            told |= {message["name"], message["peer"]}


def classify(own: socket.socket, ips: list[str]) -> tuple[str, str]:
    """Mapping and filtering, in the letters of RFC 4787."""
    asked, seen, through = asked_addresses(ips), {}, set()
    for _ in range(5):  # links may lose packets
        for place, to in enumerate(asked):
            if place not in seen:
                send(own, {"op": "observe"}, to)
        until = time.monotonic() + 0.3
        while len(seen) < len(asked) and time.monotonic() < until:
            for _, message, _ in received([own], until - time.monotonic()):
                if message["op"] == "observed":
                    seen[message["by"]] = tuple(message["address"])
    for _ in range(3):
        send(own, {"op": "call"}, asked[0])
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            for _, message, _ in received([own], until - time.monotonic()):
                if message["op"] == "called":
                    through.add(message["from"])
    mapping = "blocked" if not seen else "EIM" if len(set(seen.values())) == 1 else "EDM"
    filtering = "EIF" if "other-host" in through else "ADF" if "same-host" in through else "APDF"
    return mapping, filtering


def client(options: argparse.Namespace) -> dict:
    own = udp(("0.0.0.0", options.port))
    mapping, filtering = classify(own, options.ips)
    out = {"name": options.name, "mapping": mapping, "filtering": filtering, "ok": False}
    target, until = None, time.monotonic() + 10
    while mapping != "blocked" and not target and time.monotonic() < until:
        send(own, {"op": "join", "name": options.name, "peer": options.peer}, asked_addresses(options.ips)[0])
        for _, message, _ in received([own], 0.5):
            if message["op"] == "go":
                target = message["address"]
    if not target:
        return out
    time.sleep(options.late)
    began, sent, heard, next_send = time.monotonic(), 0, None, 0.0
    ends = began + options.seconds
    while time.monotonic() < ends:
        now = time.monotonic()
        if now >= next_send:
            # Who was heard is answered where the packet came from, whatever was told.
            send(own, {"op": "punch", "heard": heard is not None}, heard or target)
            sent, next_send = sent + 1, now + (0.05 if heard else 0.1)
        for _, message, source in received([own], next_send - time.monotonic()):
            if message["op"] == "punch":
                heard = source
                if message["heard"] and not out["ok"]:
                    out.update(ok=True, ms=round((time.monotonic() - began) * 1000), sent=sent)
                    ends = time.monotonic() + 0.5  # the peer has to hear of it
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("ips", nargs=3)
    parser.add_argument("name", nargs="?")
    parser.add_argument("peer", nargs="?")
    parser.add_argument("--port", type=int, default=4001)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--late", type=float, default=0, help="seconds that this side begins late")
    given = parser.parse_args()
    server(given.ips) if given.role == "server" else print(json.dumps(client(given)))
