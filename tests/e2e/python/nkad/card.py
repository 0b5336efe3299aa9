"""Cards (docs/protocol.md, section 8): what a node says of where it is, as the value of the record under its own id."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from .wire import SMALLEST_CONTACT, SMALLEST_SOCKET, Contact, Malformed, Reader, Socket, Unsupported, Writer
from .wire import read_extensions

MARKER = b"kad-card"
VERSION = 1
SERVES = 0x01
MAX_CANDIDATES = 8
MAX_RELAYS = 3


class NatClass(IntEnum):
    UNKNOWN = 0
    ENDPOINT_INDEPENDENT = 1
    ENDPOINT_DEPENDENT = 2


class CandidateKind(IntEnum):
    LAN = 0
    VERIFIED = 1
    MAPPED = 2
    OBSERVED = 3


@dataclass(frozen=True)
class Card:
    candidates: list[tuple[CandidateKind, Socket]] = field(default_factory=list)
    nat: NatClass = NatClass.UNKNOWN
    relays: list[Contact] = field(default_factory=list)
    serves: bool = False

    def encode(self) -> bytes:
        to = Writer()
        to.fixed(MARKER + bytes([VERSION, SERVES if self.serves else 0, self.nat]))

        def candidate(one: tuple[CandidateKind, Socket]) -> None:
            to.u8(one[0])
            one[1].write(to)

        to.list(self.candidates, candidate)
        to.list(self.relays, lambda relay: relay.write(to))
        to.number(0)
        return bytes(to.bytes)

    @staticmethod
    def decode(value: bytes) -> Card:
        if not value.startswith(MARKER):
            raise Malformed("not a card")
        source = Reader(value[len(MARKER) :])
        version, flags, nat = source.fixed(3)
        if version != VERSION:
            raise Unsupported(f"a card of version {version}")
        told = source.list(MAX_CANDIDATES, 1 + SMALLEST_SOCKET, lambda: (source.u8(), Socket.read(source)))
        relays = source.list(MAX_RELAYS, SMALLEST_CONTACT, lambda: Contact.read(source))
        read_extensions(source)
        if source.left:
            raise Malformed(f"{source.left} bytes are left over")
        return Card(
            [(CandidateKind(kind), socket) for kind, socket in told if kind in set(CandidateKind)],
            NatClass(nat) if nat in set(NatClass) else NatClass.UNKNOWN,
            relays,
            bool(flags & SERVES),
        )
