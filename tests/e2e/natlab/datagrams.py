"""Plain datagrams, to look at links and routers without kad-node.

    datagrams.py echo IP PORT               sends back what comes, and prints from where it came
    datagrams.py ask IP PORT COUNT          asks an echo every five milliseconds, and prints how long answers took
    datagrams.py say PORT IP PORT           from this port: each line of standard input goes there; prints what comes
    datagrams.py map ROUTER PORT            has the router map this port by NAT-PMP (RFC 6886); prints the outer port
"""

import json
import select
import socket
import struct
import sys
import time

INTERVAL = 0.005

# After the last question.
PATIENCE = 1.0


def udp(address: tuple[str, int]) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(address)
    return opened


def echo(ip: str, port: str) -> None:
    own = udp((ip, int(port)))
    print("ready", flush=True)
    while True:
        data, source = own.recvfrom(2048)
        own.sendto(data, source)
        print(f"{source[0]}:{source[1]}", flush=True)


def ask(ip: str, port: str, count: str) -> None:
    own, asked, took = udp(("0.0.0.0", 0)), {}, []
    next_ask = time.monotonic()
    until = next_ask + int(count) * INTERVAL + PATIENCE
    while (now := time.monotonic()) < until:
        if now >= next_ask and len(asked) < int(count):
            own.sendto(str(len(asked)).encode(), (ip, int(port)))
            asked[len(asked)] = now
            next_ask += INTERVAL
        wait = next_ask if len(asked) < int(count) else until
        if select.select([own], [], [], max(0, wait - time.monotonic()))[0]:
            took.append(time.monotonic() - asked[int(own.recv(2048))])
    print(json.dumps(took))


def say(own_port: str, ip: str, port: str) -> None:
    own = udp(("0.0.0.0", int(own_port)))
    while True:
        for ready in select.select([own, sys.stdin], [], [])[0]:
            if ready is own:
                print(own.recv(2048).decode(), flush=True)
            elif line := sys.stdin.readline():
                own.sendto(line.strip().encode(), (ip, int(port)))
            else:
                return


def map_port(router: str, port: str) -> None:
    own = udp(("0.0.0.0", 0))
    own.settimeout(3)
    own.sendto(struct.pack("!BBHHHI", 0, 1, 0, int(port), int(port), 3600), (router, 5351))
    _, _, result, _, _, outer, _ = struct.unpack("!BBHIHHI", own.recv(64))
    if result:
        sys.exit(f"the router refuses: result {result}")
    print(outer)


if __name__ == "__main__":
    {"echo": echo, "ask": ask, "say": say, "map": map_port}[sys.argv[1]](*sys.argv[2:])
