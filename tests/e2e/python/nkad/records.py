"""Networks, identities and records (docs/protocol.md, sections 1 and 8).

A record is trusted for what it proves, never for who sent it: `verify` is called on all that arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import ClassVar

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from .wire import RecordKind, WireRecord

RECORD_VERSION = 1
TOMBSTONE = 0x01
MAX_VALUE = 65536
MAX_PAYLOAD = 1024
MAX_SALT = 64
MAX_CLOCK_AHEAD = 600
SIGNATURE_BYTES = 64
IMMUTABLE_HEADER = 3
MUTABLE_HEADER = 60
PROVIDER_HEADER = 83


def derive(purpose: str, data: bytes) -> bytes:
    """H(purpose, data) of section 1."""
    return blake3(data, derive_key_context=f"nautilus-kad 2026-11 {purpose}").digest()


def node_id(public_key: bytes) -> bytes:
    return derive("node id", public_key)


def distance(left: bytes, right: bytes) -> int:
    return int.from_bytes(left, "big") ^ int.from_bytes(right, "big")


@dataclass(frozen=True)
class Network:
    """The name and the four parameters that all nodes of a network share."""

    name: str = "nautilus"
    k: int = 20
    puzzle_bits: int = 0
    max_lifetime: int = 604800
    max_value: int = MAX_VALUE

    @property
    def digest(self) -> bytes:
        return derive(
            "network",
            self.k.to_bytes(2, "big")
            + self.puzzle_bits.to_bytes(1, "big")
            + self.max_lifetime.to_bytes(8, "big")
            + self.max_value.to_bytes(4, "big")
            + self.name.encode(),
        )

    @property
    def alpn(self) -> str:
        return "nkad/1/" + self.digest[:8].hex()


class Identity:
    """An Ed25519 key pair."""

    def __init__(self, secret: bytes | None = None) -> None:
        self.private_key = Ed25519PrivateKey.from_private_bytes(secret) if secret else Ed25519PrivateKey.generate()
        self.public_key = self.private_key.public_key().public_bytes_raw()
        self.id = node_id(self.public_key)


# The y coordinates of the eight points whose order divides 8 (the sign of x does not matter).
FIELD = 2**255 - 19
SMALL_ORDER = {0, 1, FIELD - 1} | {
    int.from_bytes(bytes.fromhex(y), "little")
    for y in (
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
}


def has_small_order(point: bytes) -> bool:
    y = int.from_bytes(point, "little") & ((1 << 255) - 1)
    return y % FIELD in SMALL_ORDER


def signature_holds(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Strict Ed25519: OpenSSL refuses scalars that are not canonical; points of small order are refused here."""
    if has_small_order(public_key) or has_small_order(signature[:32]):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Refusal(IntEnum):
    MALFORMED = 0
    UNKNOWN_VERSION = 1
    UNKNOWN_KIND = 2
    TOO_LARGE = 3
    WRONG_KEY = 4
    BAD_SIGNATURE = 5
    EXPIRED = 6
    BAD_LIFETIME = 7
    FROM_THE_FUTURE = 8
    DENIED = 9


class Refused(Exception):
    """A record that must not be believed or kept, and why."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(reason.name)
        self.reason = reason


class Content(IntEnum):
    """What the value of an immutable record is; each has hashes of its own."""

    PLAIN = 0
    FILE_INDEX = 1


@dataclass(frozen=True)
class Immutable:
    KIND: ClassVar[RecordKind] = RecordKind.IMMUTABLE
    value: bytes
    content: Content = Content.PLAIN

    @property
    def key(self) -> bytes:
        return derive("immutable value" if self.content == Content.PLAIN else "file index", self.value)

    def encode(self) -> bytes:
        return bytes([RECORD_VERSION, self.KIND, self.content]) + self.value

    def on_wire(self, remaining: int) -> WireRecord:
        return WireRecord(remaining, self.encode())


class Signed:
    """What mutable and provider records have in common: dates, an owner and a signature."""

    def signed_bytes(self) -> bytes:
        raise NotImplementedError

    def encode(self) -> bytes:
        return self.signed_bytes() + self.signature

    def on_wire(self) -> WireRecord:
        return WireRecord(0, self.encode())

    def signature_hash(self, network: Network) -> bytes:
        return derive("record signature", network.digest + self.key + self.signed_bytes())

    def signed(self, identity: Identity, network: Network):
        return replace(self, signature=identity.private_key.sign(self.signature_hash(network)))

    @property
    def rank(self) -> tuple[int, bool, bytes, int]:
        """Of two records of one slot the one of greater rank wins."""
        return (self.version, self.tombstone, self.content, self.expiry)


@dataclass(frozen=True)
class Mutable(Signed):
    KIND: ClassVar[RecordKind] = RecordKind.MUTABLE
    owner: bytes
    seq: int
    issued: int
    expiry: int
    salt: bytes
    value: bytes
    tombstone: bool = False
    signature: bytes = bytes(SIGNATURE_BYTES)

    @property
    def version(self) -> int:
        return self.seq

    @property
    def signer(self) -> bytes:
        return self.owner

    @property
    def content(self) -> bytes:
        return self.value

    @property
    def key(self) -> bytes:
        return mutable_key(self.owner, self.salt)

    def signed_bytes(self) -> bytes:
        return (
            bytes([RECORD_VERSION, self.KIND, TOMBSTONE if self.tombstone else 0])
            + self.owner
            + b"".join(number.to_bytes(8, "big") for number in (self.seq, self.issued, self.expiry))
            + bytes([len(self.salt)])
            + self.salt
            + self.value
        )


@dataclass(frozen=True)
class Provider(Signed):
    KIND: ClassVar[RecordKind] = RecordKind.PROVIDER
    provider: bytes
    issued: int
    expiry: int
    key: bytes
    payload: bytes
    tombstone: bool = False
    signature: bytes = bytes(SIGNATURE_BYTES)

    @property
    def version(self) -> int:
        return self.issued

    @property
    def signer(self) -> bytes:
        return self.provider

    @property
    def content(self) -> bytes:
        return self.payload

    def signed_bytes(self) -> bytes:
        return (
            bytes([RECORD_VERSION, self.KIND, TOMBSTONE if self.tombstone else 0])
            + self.provider
            + b"".join(number.to_bytes(8, "big") for number in (self.issued, self.expiry))
            + self.key
            + self.payload
        )


Record = Immutable | Mutable | Provider


def mutable_key(owner: bytes, salt: bytes) -> bytes:
    return derive("mutable key", owner + salt) if salt else node_id(owner)


def record_digest(record: Record) -> bytes:
    return derive("record digest", record.encode())


def parse(data: bytes) -> Record:
    """Reads the layout of section 8; proves nothing."""
    if len(data) < 2:
        raise Refused(Refusal.MALFORMED)
    if data[0] != RECORD_VERSION:
        raise Refused(Refusal.UNKNOWN_VERSION)
    match data[1]:
        case RecordKind.IMMUTABLE:
            return _parse_immutable(data)
        case RecordKind.MUTABLE:
            return _parse_mutable(data)
        case RecordKind.PROVIDER:
            return _parse_provider(data)
        case _:
            raise Refused(Refusal.UNKNOWN_KIND)


def _parse_immutable(data: bytes) -> Immutable:
    if len(data) < IMMUTABLE_HEADER:
        raise Refused(Refusal.MALFORMED)
    if data[2] not in iter(Content):
        raise Refused(Refusal.UNKNOWN_KIND)
    return Immutable(data[IMMUTABLE_HEADER:], Content(data[2]))


def _big_endian(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "big")


def _parse_mutable(data: bytes) -> Mutable:
    if len(data) < MUTABLE_HEADER + SIGNATURE_BYTES:
        raise Refused(Refusal.MALFORMED)
    value_at = MUTABLE_HEADER + data[59]
    if data[59] > MAX_SALT or len(data) < value_at + SIGNATURE_BYTES:
        raise Refused(Refusal.MALFORMED)
    value = data[value_at:-SIGNATURE_BYTES]
    return Mutable(
        owner=data[3:35],
        seq=_big_endian(data, 35),
        issued=_big_endian(data, 43),
        expiry=_big_endian(data, 51),
        salt=data[MUTABLE_HEADER:value_at],
        value=value,
        tombstone=_tombstone(data[2], value),
        signature=data[-SIGNATURE_BYTES:],
    )


def _parse_provider(data: bytes) -> Provider:
    if len(data) < PROVIDER_HEADER + SIGNATURE_BYTES:
        raise Refused(Refusal.MALFORMED)
    payload = data[PROVIDER_HEADER:-SIGNATURE_BYTES]
    return Provider(
        provider=data[3:35],
        issued=_big_endian(data, 35),
        expiry=_big_endian(data, 43),
        key=data[51:PROVIDER_HEADER],
        payload=payload,
        tombstone=_tombstone(data[2], payload),
        signature=data[-SIGNATURE_BYTES:],
    )


def _tombstone(flags: int, content: bytes) -> bool:
    if flags & ~TOMBSTONE or (flags & TOMBSTONE and content):
        raise Refused(Refusal.MALFORMED)
    return bool(flags & TOMBSTONE)


def verify(received: WireRecord, network: Network, now: int) -> Record:
    """The record in these bytes, if it proves what it says; otherwise raises Refused, with the reasons in the order
    of section 8."""
    record = parse(received.bytes)
    if isinstance(record, Immutable):
        _verify_immutable(record, received.remaining, network)
    else:
        _verify_signed(record, network, now)
    return record


def _verify_immutable(record: Immutable, remaining: int, network: Network) -> None:
    if len(record.value) > network.max_value:
        raise Refused(Refusal.TOO_LARGE)
    if remaining == 0:
        raise Refused(Refusal.EXPIRED)
    if remaining > network.max_lifetime:
        raise Refused(Refusal.BAD_LIFETIME)


def _verify_signed(record: Mutable | Provider, network: Network, now: int) -> None:
    if len(record.content) > (network.max_value if isinstance(record, Mutable) else MAX_PAYLOAD):
        raise Refused(Refusal.TOO_LARGE)
    if record.expiry <= now:
        raise Refused(Refusal.EXPIRED)
    if record.issued > now + MAX_CLOCK_AHEAD:
        raise Refused(Refusal.FROM_THE_FUTURE)
    lifetime = max(0, record.expiry - record.issued)
    if lifetime > network.max_lifetime or (record.tombstone and lifetime != network.max_lifetime):
        raise Refused(Refusal.BAD_LIFETIME)
    if not signature_holds(record.signer, record.signature_hash(network), record.signature):
        raise Refused(Refusal.BAD_SIGNATURE)
