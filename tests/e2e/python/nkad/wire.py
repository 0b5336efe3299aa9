"""Frames and messages (docs/protocol.md, sections 3 to 7): values to bytes and back.

Nothing here knows what a record means; a record is a list of bytes. Every list is checked against its maximum before
its elements are read, and a frame must be filled exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Callable, ClassVar, TypeVar

T = TypeVar("T")

VERSION = 1
READ_ONLY = 0x01
MUST_UNDERSTAND = 0xF0

MAX_FRAME = 81920
MAX_CONTACTS = 32
MAX_SOCKETS = 4
MAX_RECORDS = 64
MAX_RECORD_BYTES = 65724
MAX_COMPARED = 64
MAX_LISTED = 512
MAX_MARKS = 2048
MAX_PREFIX_BITS = 64
PARTS = 16
MAX_EXTENSIONS = 16
MAX_EXTENSION_BYTES = 4096
MAX_CARD_BYTES = 2048

EXTENSION_CARD = 1


class Malformed(Exception):
    """These bytes are no message (REJECTED, reason malformed)."""


class Unsupported(Exception):
    """A version, flag or kind that this version does not know (REJECTED, reason unsupported)."""


# Section 5: numbers, options, lists.


class Writer:
    """Puts values into a frame one after another, numbers in their shortest form."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def u8(self, value: int) -> None:
        self.bytes.append(value)

    def number(self, value: int) -> None:
        """A u16, u32 or u64: their shortest forms are the same."""
        if value < 0 or value >= 1 << 64:
            raise ValueError(f"{value} does not fit into a u64")
        if value <= 250:
            self.bytes.append(value)
            return
        for marker, size in ((251, 2), (252, 4), (253, 8)):
            if value < 1 << (8 * size):
                self.bytes.append(marker)
                self.bytes += value.to_bytes(size, "little")
                return

    def fixed(self, value: bytes) -> None:
        self.bytes += value

    def list_of_bytes(self, value: bytes) -> None:
        self.number(len(value))
        self.bytes += value

    def option(self, value: T | None, write: Callable[[T], None]) -> None:
        self.u8(0 if value is None else 1)
        if value is not None:
            write(value)

    def list(self, values: list[T], write: Callable[[T], None]) -> None:
        self.number(len(values))
        for value in values:
            write(value)


class Reader:
    """Takes values out of a frame; raises Malformed where it does not hold them."""

    MARKERS = {251: 2, 252: 4, 253: 8}

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def fixed(self, count: int) -> bytes:
        if count > self.left:
            raise Malformed("the frame ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def rest(self) -> bytes:
        return self.fixed(self.left)

    def u8(self) -> int:
        return self.fixed(1)[0]

    def number(self, size: int) -> int:
        """An integer whose type has `size` bytes (2, 4 or 8)."""
        marker = self.u8()
        if marker <= 250:
            return marker
        width = self.MARKERS.get(marker)
        if width is None or width > size:
            raise Malformed(f"{marker} begins no number of {size} bytes")
        return int.from_bytes(self.fixed(width), "little")

    def u16(self) -> int:
        return self.number(2)

    def u32(self) -> int:
        return self.number(4)

    def u64(self) -> int:
        return self.number(8)

    def list_of_bytes(self, maximum: int) -> bytes:
        count = self.u64()
        if count > maximum:
            raise Malformed(f"{count} bytes where {maximum} may be")
        return self.fixed(count)

    def option(self, read: Callable[[], T]) -> T | None:
        match self.u8():
            case 0:
                return None
            case 1:
                return read()
            case other:
                raise Malformed(f"{other} begins no option")

    def list(self, maximum: int, smallest: int, read: Callable[[], T]) -> list[T]:
        """A list whose elements take `smallest` bytes or more."""
        count = self.u64()
        if count > maximum or count * smallest > self.left:
            raise Malformed(f"a list of {count} elements")
        return [read() for _ in range(count)]


# Section 6: parts of messages.


@dataclass(frozen=True)
class Socket:
    ip: IPv4Address | IPv6Address
    port: int

    @staticmethod
    def of(ip: str, port: int) -> Socket:
        address = ip_address(ip)
        mapped = address.ipv4_mapped if address.version == 6 else None
        return Socket(mapped or address, port)

    def write(self, to: Writer) -> None:
        to.number(0 if self.ip.version == 4 else 1)
        to.fixed(self.ip.packed)
        to.number(self.port)

    @staticmethod
    def read(source: Reader) -> Socket:
        match source.u32():
            case 0:
                ip = IPv4Address(source.fixed(4))
            case 1:
                ip = IPv6Address(source.fixed(16))
            case other:
                raise Malformed(f"{other} is no variant of a socket")
        return Socket(ip, source.u16())


Address = tuple[Socket, ...]
SMALLEST_SOCKET = 1 + 4 + 1
SMALLEST_CONTACT = 32 + 1
SMALLEST_FOUND = 1 + 1 + 1
SMALLEST_ENTRY = 1 + 1 + 1
SMALLEST_VERDICT = 1 + 1
SMALLEST_PART = 1 + 1 + 1 + 16
SMALLEST_DIFFERENCE = 1
MARK = 8
SMALLEST_EXTENSION = 1 + 1


ANNOUNCED = b"kad-addr"


def announced(payload: bytes) -> tuple[Address, bytes]:
    """Where a provider says that it can be reached, and what its application added (docs/protocol.md, section 6)."""
    if payload.startswith(ANNOUNCED):
        source = Reader(payload[len(ANNOUNCED) :])
        try:
            return read_address(source), source.rest()
        except Malformed:
            pass
    return (), payload


def write_address(to: Writer, address: Address) -> None:
    to.list(list(address), lambda socket: socket.write(to))


def read_address(source: Reader) -> Address:
    return tuple(source.list(MAX_SOCKETS, SMALLEST_SOCKET, lambda: Socket.read(source)))


@dataclass(frozen=True)
class Contact:
    id: bytes
    address: Address

    def write(self, to: Writer) -> None:
        to.fixed(self.id)
        write_address(to, self.address)

    @staticmethod
    def read(source: Reader) -> Contact:
        return Contact(source.fixed(32), read_address(source))


def write_contacts(to: Writer, contacts: list[Contact]) -> None:
    to.list(contacts, lambda contact: contact.write(to))


def read_contacts(source: Reader) -> list[Contact]:
    return source.list(MAX_CONTACTS, SMALLEST_CONTACT, lambda: Contact.read(source))


@dataclass(frozen=True)
class WireRecord:
    """A record as messages carry it: its bytes, and the seconds that an immutable one has left (otherwise 0)."""

    remaining: int
    bytes: bytes

    def write(self, to: Writer) -> None:
        to.number(self.remaining)
        to.list_of_bytes(self.bytes)

    @staticmethod
    def read(source: Reader) -> WireRecord:
        return WireRecord(source.u64(), source.list_of_bytes(MAX_RECORD_BYTES))


def check_record_bytes(records: list[WireRecord]) -> None:
    if sum(len(record.bytes) for record in records) > MAX_RECORD_BYTES:
        raise Malformed("too many bytes of records")


@dataclass(frozen=True)
class Prefix:
    """All keys whose first `length` bits are those of `bits`; the other bits of `bits` are 0."""

    bits: int
    length: int

    def write(self, to: Writer) -> None:
        to.number(self.bits)
        to.u8(self.length)

    @staticmethod
    def read(source: Reader) -> Prefix:
        prefix = Prefix(source.u64(), source.u8())
        if prefix.length > MAX_PREFIX_BITS or prefix.bits % (1 << (MAX_PREFIX_BITS - prefix.length)):
            raise Malformed(f"{prefix} is no prefix")
        return prefix


@dataclass(frozen=True)
class Fingerprint:
    """How many records a node holds under a prefix, and the sum of their marks modulo 2^128."""

    count: int = 0
    sum: int = 0

    @staticmethod
    def of(digests: list[bytes]) -> Fingerprint:
        marks = [int.from_bytes(digest[:16], "big") for digest in digests]
        return Fingerprint(len(marks), sum(marks) % (1 << 128))

    def write(self, to: Writer) -> None:
        to.number(self.count)
        to.fixed(self.sum.to_bytes(16, "big"))

    @staticmethod
    def read(source: Reader) -> Fingerprint:
        return Fingerprint(source.u32(), int.from_bytes(source.fixed(16), "big"))


@dataclass(frozen=True)
class Same:
    """Both nodes hold the same under a prefix."""


@dataclass(frozen=True)
class InParts:
    """What a node holds under the sixteen prefixes that are four bits longer."""

    fingerprints: list[Fingerprint]


@dataclass(frozen=True)
class Listed:
    """The first 8 bytes of the marks of all that a node holds under a prefix."""

    marks: list[bytes]


Difference = Same | InParts | Listed


@dataclass(frozen=True)
class Digest:
    """What a node claims to hold, when only that was wanted."""

    seq: int
    digest: bytes


class Want(IntEnum):
    RECORD = 0
    DIGEST = 1


class RecordKind(IntEnum):
    IMMUTABLE = 0
    MUTABLE = 1
    PROVIDER = 2


class Verdict(IntEnum):
    STORED = 0
    UNCHANGED = 1
    STALE = 2
    CONFLICT = 3
    FULL = 4
    REFUSED = 5
    FAILED = 6
    NOT_NEAR = 7
    TOO_OFTEN = 8
    STORES_NOTHING = 9


class Reason(IntEnum):
    """Why a request as a whole was REJECTED."""

    UNSUPPORTED = 0
    BUSY = 1
    MALFORMED = 2
    READ_ONLY = 3
    STORES_NOTHING = 4


# Section 7: messages. Each class reads and writes its body.


@dataclass(frozen=True)
class Ping:
    KIND: ClassVar[int] = 0x01

    def write(self, to: Writer) -> None:
        pass

    @staticmethod
    def read(source: Reader) -> Ping:
        return Ping()


@dataclass(frozen=True)
class Pong:
    KIND: ClassVar[int] = 0x81
    unix: int
    observed: Address

    def write(self, to: Writer) -> None:
        to.number(self.unix)
        write_address(to, self.observed)

    @staticmethod
    def read(source: Reader) -> Pong:
        pong = Pong(source.u64(), read_address(source))
        if not pong.observed:
            raise Malformed("a PONG without an address")
        return pong


@dataclass(frozen=True)
class FindNode:
    KIND: ClassVar[int] = 0x02
    target: bytes
    wants_card: bool = False

    def write(self, to: Writer) -> None:
        to.fixed(self.target)

    @staticmethod
    def read(source: Reader) -> FindNode:
        return FindNode(source.fixed(32))

    @property
    def extensions(self) -> dict[int, bytes]:
        return {EXTENSION_CARD: b""} if self.wants_card else {}

    def with_extensions(self, known: dict[int, bytes]) -> FindNode:
        return replace(self, wants_card=EXTENSION_CARD in known)


@dataclass(frozen=True)
class Nodes:
    KIND: ClassVar[int] = 0x82
    contacts: list[Contact]
    card: bytes | None = None

    def write(self, to: Writer) -> None:
        write_contacts(to, self.contacts)

    @staticmethod
    def read(source: Reader) -> Nodes:
        return Nodes(read_contacts(source))

    @property
    def extensions(self) -> dict[int, bytes]:
        return {} if self.card is None else {EXTENSION_CARD: self.card}

    def with_extensions(self, known: dict[int, bytes]) -> Nodes:
        card = known.get(EXTENSION_CARD)
        if card is not None and len(card) > MAX_CARD_BYTES:
            raise Malformed("a card that is too large")
        return replace(self, card=card)


@dataclass(frozen=True)
class FindValue:
    KIND: ClassVar[int] = 0x03
    key: bytes
    record_kind: int
    want: int = Want.RECORD
    min_seq: int = 0
    after: bytes | None = None

    def turn_of(self, provider: bytes) -> tuple[bool, bytes]:
        """Where a provider comes in a page: behind `after`, and then round from the smallest id on."""
        return (self.after is not None and provider <= self.after, provider)

    def write(self, to: Writer) -> None:
        to.fixed(self.key)
        to.u8(self.record_kind)
        to.u8(self.want)
        to.number(self.min_seq)
        to.option(self.after, to.fixed)

    @staticmethod
    def read(source: Reader) -> FindValue:
        return FindValue(
            source.fixed(32), source.u8(), source.u8(), source.u64(), source.option(lambda: source.fixed(32))
        )


@dataclass(frozen=True)
class Values:
    KIND: ClassVar[int] = 0x83
    found: list[WireRecord | Digest]
    next: bytes | None = None
    contacts: list[Contact] = field(default_factory=list)

    def write(self, to: Writer) -> None:
        def element(found: WireRecord | Digest) -> None:
            if isinstance(found, WireRecord):
                to.u8(Want.RECORD)
                found.write(to)
            else:
                to.u8(Want.DIGEST)
                to.number(found.seq)
                to.fixed(found.digest)

        to.list(self.found, element)
        to.option(self.next, to.fixed)
        write_contacts(to, self.contacts)

    @staticmethod
    def read(source: Reader) -> Values:
        def element() -> WireRecord | Digest:
            match source.u8():
                case Want.RECORD:
                    return WireRecord.read(source)
                case Want.DIGEST:
                    return Digest(source.u64(), source.fixed(32))
                case other:
                    raise Malformed(f"{other} begins nothing that can be found")

        found = source.list(MAX_RECORDS, SMALLEST_FOUND, element)
        check_record_bytes([item for item in found if isinstance(item, WireRecord)])
        return Values(found, source.option(lambda: source.fixed(32)), read_contacts(source))


@dataclass(frozen=True)
class Entry:
    """A record to store, and for compare-and-swap the version that must be held (0: none)."""

    record: WireRecord
    expected: int | None = None

    def write(self, to: Writer) -> None:
        self.record.write(to)
        to.option(self.expected, to.number)

    @staticmethod
    def read(source: Reader) -> Entry:
        return Entry(WireRecord.read(source), source.option(source.u64))


@dataclass(frozen=True)
class Store:
    KIND: ClassVar[int] = 0x04
    entries: list[Entry]

    def write(self, to: Writer) -> None:
        to.list(self.entries, lambda entry: entry.write(to))

    @staticmethod
    def read(source: Reader) -> Store:
        store = Store(source.list(MAX_RECORDS, SMALLEST_ENTRY, lambda: Entry.read(source)))
        check_record_bytes([entry.record for entry in store.entries])
        return store


@dataclass(frozen=True)
class Stored:
    KIND: ClassVar[int] = 0x84
    verdicts: list[tuple[int, int]]
    contacts: list[Contact] = field(default_factory=list)

    def write(self, to: Writer) -> None:
        def verdict(pair: tuple[int, int]) -> None:
            to.u8(pair[0])
            to.number(pair[1])

        to.list(self.verdicts, verdict)
        write_contacts(to, self.contacts)

    @staticmethod
    def read(source: Reader) -> Stored:
        verdicts = source.list(MAX_RECORDS, SMALLEST_VERDICT, lambda: (source.u8(), source.u64()))
        return Stored(verdicts, read_contacts(source))


@dataclass(frozen=True)
class Compare:
    KIND: ClassVar[int] = 0x05
    parts: list[tuple[Prefix, Fingerprint]]

    def write(self, to: Writer) -> None:
        def part(pair: tuple[Prefix, Fingerprint]) -> None:
            pair[0].write(to)
            pair[1].write(to)

        to.list(self.parts, part)

    @staticmethod
    def read(source: Reader) -> Compare:
        return Compare(
            source.list(MAX_COMPARED, SMALLEST_PART, lambda: (Prefix.read(source), Fingerprint.read(source)))
        )


@dataclass(frozen=True)
class Compared:
    KIND: ClassVar[int] = 0x85
    differences: list[Difference]

    def write(self, to: Writer) -> None:
        def element(difference: Difference) -> None:
            match difference:
                case Same():
                    to.u8(0)
                case InParts(fingerprints):
                    to.u8(1)
                    for fingerprint in fingerprints:
                        fingerprint.write(to)
                case Listed(marks):
                    to.u8(2)
                    to.list(marks, to.fixed)

        to.list(self.differences, element)

    @staticmethod
    def read(source: Reader) -> Compared:
        told = 0

        def element() -> Difference:
            nonlocal told
            match source.u8():
                case 0:
                    return Same()
                case 1:
                    return InParts([Fingerprint.read(source) for _ in range(PARTS)])
                case 2:
                    marks = source.list(min(MAX_LISTED, MAX_MARKS - told), MARK, lambda: source.fixed(MARK))
                    told += len(marks)
                    return Listed(marks)
                case other:
                    raise Malformed(f"{other} begins no difference")

        return Compared(source.list(MAX_COMPARED, SMALLEST_DIFFERENCE, element))


@dataclass(frozen=True)
class Fetch:
    KIND: ClassVar[int] = 0x06
    prefix: Prefix
    marks: list[bytes]

    def write(self, to: Writer) -> None:
        self.prefix.write(to)
        to.list(self.marks, to.fixed)

    @staticmethod
    def read(source: Reader) -> Fetch:
        return Fetch(Prefix.read(source), source.list(MAX_RECORDS, MARK, lambda: source.fixed(MARK)))


@dataclass(frozen=True)
class Fetched:
    KIND: ClassVar[int] = 0x86
    records: list[WireRecord]

    def write(self, to: Writer) -> None:
        to.list(self.records, lambda record: record.write(to))

    @staticmethod
    def read(source: Reader) -> Fetched:
        fetched = Fetched(source.list(MAX_RECORDS, 1 + 1, lambda: WireRecord.read(source)))
        check_record_bytes(fetched.records)
        return fetched


@dataclass(frozen=True)
class Rejected:
    KIND: ClassVar[int] = 0xFF
    reason: int

    def write(self, to: Writer) -> None:
        to.u8(self.reason)

    @staticmethod
    def read(source: Reader) -> Rejected:
        return Rejected(source.u8())


Request = Ping | FindNode | FindValue | Store | Compare | Fetch
Answer = Pong | Nodes | Values | Stored | Compared | Fetched | Rejected
REQUESTS = {kind.KIND: kind for kind in (Ping, FindNode, FindValue, Store, Compare, Fetch)}
ANSWERS = {kind.KIND: kind for kind in (Pong, Nodes, Values, Stored, Compared, Fetched, Rejected)}


# Sections 3 and 4: frames.


def encode(message: Request | Answer, read_only: bool = False) -> bytes:
    """The frame of a message, with the extensions that it has."""
    to = Writer()
    to.fixed(bytes([VERSION, message.KIND, READ_ONLY if read_only else 0]))
    message.write(to)
    extensions = getattr(message, "extensions", {})
    to.number(len(extensions))
    for number, payload in extensions.items():
        to.number(number)
        to.list_of_bytes(payload)
    if len(to.bytes) > MAX_FRAME:
        raise ValueError("the message does not fit into a frame")
    return bytes(to.bytes)


def decode_request(frame: bytes) -> tuple[Request, bool]:
    """The request in a frame, and whether its sender is read-only."""
    message, flags = _decode(frame, REQUESTS)
    return message, bool(flags & READ_ONLY)


def decode_answer(frame: bytes) -> Answer:
    return _decode(frame, ANSWERS)[0]


def _decode(frame: bytes, kinds: dict[int, type]) -> tuple[Request | Answer, int]:
    if len(frame) > MAX_FRAME:
        raise Malformed("the frame is too long")
    source = Reader(frame)
    version, kind, flags = source.fixed(3)
    if version != VERSION or flags & MUST_UNDERSTAND or kind not in kinds:
        raise Unsupported(f"version {version}, kind {kind:#04x}, flags {flags:#04x}")
    message = kinds[kind].read(source)
    extensions = read_extensions(source)
    if hasattr(message, "with_extensions"):
        message = message.with_extensions(extensions)
    if source.left:
        raise Malformed(f"{source.left} bytes are left over")
    return message, flags


def read_extensions(source: Reader) -> dict[int, bytes]:
    """Those that are known, by their numbers; the others are passed over."""
    payload = 0
    known: dict[int, bytes] = {}

    def extension() -> None:
        nonlocal payload
        number = source.u16()
        content = source.list_of_bytes(MAX_EXTENSION_BYTES - payload)
        payload += len(content)
        if number == EXTENSION_CARD:
            if number in known:
                raise Malformed("an extension is there twice")
            known[number] = content

    source.list(MAX_EXTENSIONS, SMALLEST_EXTENSION, extension)
    return known
