"""cable.py NS_A DEV_A NS_B DEV_B DELAY_MS LOSS_PERCENT SEED

A link with delay and loss in user space, for kernels without netem: one TAP device in each of two namespaces, every
frame held for DELAY_MS and lost with LOSS_PERCENT, independently in each direction. Says "ready" once both devices are
there; they go when it ends.
"""

import collections
import ctypes
import fcntl
import os
import random
import select
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)

# From linux/if_tun.h.
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000

# Frames under way at a time: a second of full frames at 100 Mbit/s. A further one is lost, as in any router.
MAX_HELD = 8192

# Frames taken from one side before the other has its turn.
MAX_TAKEN = 64


def enter_namespace(name: str) -> None:
    """From here on the calling thread is in that namespace."""
    with open(f"/run/netns/{name}", "rb") as file:
        if LIBC.setns(file.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"the namespace {name} cannot be entered")


def tap(namespace: str, name: str) -> int:
    enter_namespace(namespace)
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return fd


def main(ns_a: str, dev_a: str, ns_b: str, dev_b: str, delay_ms: str, loss_percent: str, seed: str) -> None:
    delay, loss, chance = float(delay_ms) / 1000, float(loss_percent) / 100, random.Random(seed)
    a, b = tap(ns_a, dev_a), tap(ns_b, dev_b)
    print("ready", flush=True)
    # The delay is constant, so the queue is sorted by itself.
    peer, held = {a: b, b: a}, collections.deque()
    while True:
        wait = max(0, held[0][0] - time.monotonic()) if held else None
        for fd in select.select([a, b], [], [], wait)[0]:
            for _ in range(MAX_TAKEN):
                try:
                    frame = os.read(fd, 65536)
                except OSError:  # nothing is left, or the interface is down
                    break
                if chance.random() >= loss and len(held) < MAX_HELD:
                    held.append((time.monotonic() + delay, peer[fd], frame))
        while held and held[0][0] <= time.monotonic():
            _, out, frame = held.popleft()
            try:
                os.write(out, frame)
            except OSError:  # the other end is down, or its queue is full: a lost frame
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
