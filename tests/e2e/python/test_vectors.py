"""The test vectors of docs/protocol.md, in both directions: value to bytes, and bytes to value."""

import re
import unittest
from pathlib import Path

from nkad import files, records, wire
from nkad.card import CandidateKind, Card, NatClass
from nkad.records import Content, Identity, Immutable, Mutable, Network, Provider, Refusal, Refused
from nkad.wire import (
    Compare,
    Compared,
    Contact,
    Digest,
    Entry,
    Fetch,
    Fetched,
    FindNode,
    FindValue,
    Fingerprint,
    InParts,
    Listed,
    Nodes,
    Ping,
    Pong,
    Prefix,
    RecordKind,
    Rejected,
    Same,
    Socket,
    Store,
    Stored,
    Values,
    Want,
)

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "protocol.md"
NOW = 1800000000
NETWORK = Network()
END = NOW + NETWORK.max_lifetime


def read_vectors() -> dict[str, bytes]:
    block = re.search(r"```vectors\n(.*?)```", DOCUMENT.read_text(), re.DOTALL).group(1)
    lines = re.sub(r"\n +", "", block).strip().splitlines()
    return {name: bytes.fromhex(digits) for name, digits in (line.split(" = ") for line in lines)}


ONE = Identity(bytes([1]) * 32)
TWO = Identity(bytes([2]) * 32)
HELLO = Immutable(b"hello")
BLOG = Mutable(ONE.public_key, 7, NOW, END, b"blog", b"post")
ZEROS = files.split(bytes(files.MAX_CHUNK + 1), NETWORK)
RECORDS = {
    "immutable hello": HELLO,
    "file index": ZEROS[-1],
    "mutable blog": BLOG.signed(ONE, NETWORK),
    "mutable tombstone": Mutable(ONE.public_key, 8, NOW, END, b"blog", b"", tombstone=True).signed(ONE, NETWORK),
    "card": Mutable(ONE.public_key, 3, NOW, END, b"", b"card").signed(ONE, NETWORK),
    "provider": Provider(TWO.public_key, NOW, END, HELLO.key, b"here").signed(TWO, NETWORK),
    "provider withdrawal": Provider(TWO.public_key, NOW, END, HELLO.key, b"", tombstone=True).signed(TWO, NETWORK),
}
HELLO_ON_WIRE = HELLO.on_wire(86400)
BLOG_ON_WIRE = RECORDS["mutable blog"].on_wire()
ALL_KEYS = Prefix(0, 0)
HELLO_DIGEST = records.record_digest(HELLO)
BLOG_DIGEST = records.record_digest(RECORDS["mutable blog"])
CONTACTS = [
    Contact(ONE.id, (Socket.of("192.0.2.1", 4000),)),
    Contact(TWO.id, (Socket.of("192.0.2.2", 250), Socket.of("2001:db8::2", 251))),
]
REQUESTS = {
    "ping": Ping(),
    "find_node": FindNode(HELLO.key),
    "find_node with card": FindNode(ONE.id, wants_card=True),
    "find_value, immutable": FindValue(HELLO.key, RecordKind.IMMUTABLE),
    "find_value, mutable digest": FindValue(BLOG.key, RecordKind.MUTABLE, Want.DIGEST, min_seq=300),
    "find_value, providers": FindValue(HELLO.key, RecordKind.PROVIDER, after=ONE.id),
    "store": Store([Entry(HELLO_ON_WIRE), Entry(BLOG_ON_WIRE, expected=6)]),
    "compare": Compare(
        [(Prefix(0, 1), Fingerprint()), (Prefix(0x9 << 60, 4), Fingerprint.of([HELLO_DIGEST, BLOG_DIGEST]))]
    ),
    "fetch": Fetch(ALL_KEYS, [HELLO_DIGEST[:8]]),
}
ANSWERS = {
    "pong, IPv4": Pong(NOW, CONTACTS[0].address),
    "pong, IPv6": Pong(250, (Socket.of("2001:db8::1", 65535),)),
    "nodes": Nodes(CONTACTS),
    "nodes with card": Nodes(CONTACTS, RECORDS["card"].encode()),
    "values, immutable": Values([HELLO_ON_WIRE]),
    "values, digest": Values([Digest(7, records.record_digest(RECORDS["mutable blog"]))], contacts=CONTACTS),
    "values, providers": Values([RECORDS["provider"].on_wire()], next=TWO.id),
    "values, none": Values([], contacts=CONTACTS),
    "stored": Stored(
        [(0, 0), (1, 0), (2, 9), (3, 70000), (4, 0), (5, 5), (6, 0), (7, 0), (8, 0), (9, 0), (5, Refusal.DENIED)], CONTACTS
    ),
    "compared, same and listed": Compared([Same(), Listed([HELLO_DIGEST[:8]])]),
    "compared, parts": Compared(
        [InParts([Fingerprint.of([HELLO_DIGEST]) if part == 9 else Fingerprint() for part in range(16)])]
    ),
    "fetched": Fetched([HELLO_ON_WIRE]),
    "rejected, unsupported": Rejected(0),
    "rejected, busy": Rejected(1),
    "rejected, malformed": Rejected(2),
    "rejected, read-only": Rejected(3),
    "rejected, stores nothing": Rejected(4),
}
CARD = Card(
    [(CandidateKind.OBSERVED, Socket.of("192.0.2.1", 4000)), (CandidateKind.LAN, Socket.of("10.0.0.7", 4001))],
    NatClass.ENDPOINT_INDEPENDENT,
    [CONTACTS[1]],
)
HASHES = {
    "network digest": NETWORK.digest,
    "secret 1": bytes([1]) * 32,
    "public key 1": ONE.public_key,
    "node id 1": ONE.id,
    "secret 2": bytes([2]) * 32,
    "public key 2": TWO.public_key,
    "node id 2": TWO.id,
    "key of the immutable value hello": HELLO.key,
    "key of the file of zeros": ZEROS[-1].key,
    "key of public key 1 and salt blog": BLOG.key,
    "digest of record, mutable blog": records.record_digest(RECORDS["mutable blog"]),
    "value of a card": CARD.encode(),
}


class Vectors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.vectors = read_vectors()

    def test_every_vector_is_checked_here(self):
        checked = set(HASHES) | set(REQUESTS) | set(ANSWERS) | {"ping, read-only"} | {f"record, {n}" for n in RECORDS}
        self.assertEqual(set(self.vectors), checked)

    def test_hashes_and_keys(self):
        for name, value in HASHES.items():
            with self.subTest(name):
                self.assertEqual(value.hex(), self.vectors[name].hex())

    def test_records_are_written_signed_read_and_verified(self):
        for name, record in RECORDS.items():
            with self.subTest(name):
                vector = self.vectors[f"record, {name}"]
                self.assertEqual(record.encode().hex(), vector.hex())
                self.assertEqual(records.parse(vector), record)
                self.assertEqual(records.verify(wire.WireRecord(86400, vector), NETWORK, NOW), record)

    def test_requests_both_ways(self):
        for name, request in REQUESTS.items():
            with self.subTest(name):
                self.assertEqual(wire.encode(request).hex(), self.vectors[name].hex())
                self.assertEqual(wire.decode_request(self.vectors[name]), (request, False))
        self.assertEqual(wire.encode(Ping(), read_only=True), self.vectors["ping, read-only"])
        self.assertEqual(wire.decode_request(self.vectors["ping, read-only"]), (Ping(), True))

    def test_answers_both_ways(self):
        for name, answer in ANSWERS.items():
            with self.subTest(name):
                self.assertEqual(wire.encode(answer).hex(), self.vectors[name].hex())
                self.assertEqual(wire.decode_answer(self.vectors[name]), answer)

    def test_every_shorter_and_every_longer_frame_is_malformed(self):
        for names, decode in ((REQUESTS, wire.decode_request), (ANSWERS, wire.decode_answer)):
            for name in names:
                frame = self.vectors[name]
                for end in range(len(frame)):
                    with self.subTest(name, end=end), self.assertRaises(wire.Malformed):
                        decode(frame[:end])
                with self.subTest(name, end="over"), self.assertRaises(wire.Malformed):
                    decode(frame + b"\0")

    def test_a_card_is_read_and_what_is_none_is_not(self):
        value = self.vectors["value of a card"]
        self.assertEqual(Card.decode(value), CARD)
        for end in range(len(value)):
            with self.subTest(end=end), self.assertRaises(wire.Malformed):
                Card.decode(value[:end])
        with self.assertRaises(wire.Malformed):
            Card.decode(value + b"\0")

    def test_a_card_is_there_once_and_not_too_large(self):
        nodes = wire.encode(Nodes([]))[:-1]
        card = b"\x01\x02hi"
        self.assertEqual(wire.decode_answer(nodes + b"\x01" + card), Nodes([], b"hi"))
        with self.assertRaises(wire.Malformed):
            wire.decode_answer(nodes + b"\x02" + card + card)
        too_long = b"\x01\xfb" + (wire.MAX_CARD_BYTES + 1).to_bytes(2, "little") + bytes(wire.MAX_CARD_BYTES + 1)
        with self.assertRaises(wire.Malformed):
            wire.decode_answer(nodes + b"\x01" + too_long)

    def test_extensions_are_passed_over_and_bounded(self):
        ping = wire.encode(Ping())[:-1]
        self.assertEqual(wire.decode_request(ping + b"\x01\x07\x02hi"), (Ping(), False))
        with self.assertRaises(wire.Malformed):
            wire.decode_request(ping + bytes([17]) + b"\x07\x00" * 17)
        too_long = b"\xfb" + (wire.MAX_EXTENSION_BYTES + 1).to_bytes(2, "little") + bytes(wire.MAX_EXTENSION_BYTES + 1)
        with self.assertRaises(wire.Malformed):
            wire.decode_request(ping + b"\x01\x07" + too_long)


class Verification(unittest.TestCase):
    """What `verify` refuses, one reason at a time."""

    def assert_refused(self, reason: Refusal, record: wire.WireRecord, network: Network = NETWORK, now: int = NOW):
        with self.assertRaises(Refused) as refused:
            records.verify(record, network, now)
        self.assertEqual(refused.exception.reason, reason)

    def mutable(self, **changes) -> wire.WireRecord:
        fields = dict(owner=ONE.public_key, seq=1, issued=NOW, expiry=END, salt=b"s", value=b"v") | changes
        return Mutable(**fields).signed(ONE, NETWORK).on_wire()

    def test_any_changed_byte_of_a_signed_record_is_refused(self):
        for name in ("mutable blog", "mutable tombstone", "card", "provider", "provider withdrawal"):
            good = RECORDS[name].encode()
            for at in range(len(good)):
                changed = bytearray(good)
                changed[at] ^= 0x01
                with self.subTest(name, at=at), self.assertRaises(Refused):
                    records.verify(wire.WireRecord(0, bytes(changed)), NETWORK, NOW)

    def test_a_signature_counts_in_its_own_network_only(self):
        self.assert_refused(Refusal.BAD_SIGNATURE, BLOG_ON_WIRE, Network(name="other"))

    def test_a_key_of_small_order_signs_nothing(self):
        # With the neutral element as key and as R, and S = 0, the equation of Ed25519 holds for every message.
        neutral = (1).to_bytes(32, "little")
        forged = Mutable(neutral, 1, NOW, END, b"s", b"v", signature=neutral + bytes(32))
        self.assert_refused(Refusal.BAD_SIGNATURE, forged.on_wire())

    def test_sizes(self):
        self.assert_refused(Refusal.TOO_LARGE, self.mutable(value=bytes(records.MAX_VALUE + 1)))
        self.assert_refused(Refusal.TOO_LARGE, Immutable(bytes(records.MAX_VALUE + 1)).on_wire(1))
        payload = Provider(ONE.public_key, NOW, END, HELLO.key, bytes(records.MAX_PAYLOAD + 1))
        self.assert_refused(Refusal.TOO_LARGE, payload.signed(ONE, NETWORK).on_wire())

    def test_dates(self):
        self.assert_refused(Refusal.EXPIRED, BLOG_ON_WIRE, now=END)
        ahead = NOW + records.MAX_CLOCK_AHEAD
        records.verify(self.mutable(issued=ahead, expiry=ahead + 1), NETWORK, NOW)
        self.assert_refused(Refusal.FROM_THE_FUTURE, self.mutable(issued=ahead + 1, expiry=ahead + 2))
        self.assert_refused(Refusal.BAD_LIFETIME, self.mutable(expiry=END + 1))
        self.assert_refused(Refusal.BAD_LIFETIME, self.mutable(expiry=END - 1, tombstone=True, value=b""))
        self.assert_refused(Refusal.EXPIRED, HELLO.on_wire(0))
        self.assert_refused(Refusal.BAD_LIFETIME, HELLO.on_wire(NETWORK.max_lifetime + 1))

    def test_layouts(self):
        self.assert_refused(Refusal.MALFORMED, wire.WireRecord(1, b"\x01\x00"))
        self.assert_refused(Refusal.UNKNOWN_VERSION, wire.WireRecord(1, b"\x02\x00\x00hello"))
        self.assert_refused(Refusal.UNKNOWN_KIND, wire.WireRecord(1, b"\x01\x03hello"))
        self.assert_refused(Refusal.UNKNOWN_KIND, wire.WireRecord(1, b"\x01\x00\x02hello"))
        self.assert_refused(Refusal.MALFORMED, self.mutable(tombstone=True))
        self.assert_refused(Refusal.MALFORMED, self.mutable(salt=bytes(records.MAX_SALT + 1)))

    def test_of_two_versions_the_greater_rank_wins(self):
        post, deleted = RECORDS["mutable blog"], RECORDS["mutable tombstone"]
        self.assertGreater(deleted.rank, post.rank)
        same_seq = Mutable(ONE.public_key, 7, NOW, END, b"blog", b"", tombstone=True)
        self.assertGreater(same_seq.rank, post.rank)


class Files(unittest.IsolatedAsyncioTestCase):
    """Trees of a network whose values are small, so that they have several levels."""

    network = Network(max_value=80)

    async def test_every_size_comes_back(self):
        for size in (0, 1, 80, 81, 160, 161, 320, 321, 1000):
            data = bytes(at % 251 for at in range(size))
            held = {record.key: record for record in files.split(data, self.network)}
            with self.subTest(size=size):
                self.assertEqual(await self.read(files.split(data, self.network)[-1].key, held), data)

    async def test_a_tree_that_is_not_the_one_of_its_bytes_is_refused(self):
        parts = files.split(bytes(range(200)), self.network)
        held = {record.key: record for record in parts}
        root = parts[-1].value
        for wrong in (root[:9], b"\x02" + root[1:], root[:1] + b"\x01" + root[2:], root[:9] + b"\xc9" + root[10:], root[:-32]):
            liar = Immutable(wrong, Content.FILE_INDEX)
            with self.subTest(wrong.hex()), self.assertRaises(files.BadFile):
                await self.read(liar.key, held | {liar.key: liar})
        del held[parts[0].key]
        with self.assertRaises(files.BadFile):
            await self.read(parts[-1].key, held)

    async def read(self, key, held):
        async def fetch(key):
            return held.get(key)

        return await files.read(key, fetch, self.network)



class Announcements(unittest.TestCase):
    def test_an_address_in_front_of_a_payload_is_read_and_anything_else_is_payload(self):
        at = bytes.fromhex("6b61642d61646472 01 00 c0000207 fba00f 68657265")
        self.assertEqual(wire.announced(at), ((Socket.of("192.0.2.7", 4000),), b"here"))
        self.assertEqual(wire.announced(b"kad-addr\x00kad-addr"), ((), b"kad-addr"))
        for payload in (b"", b"here", b"kad-addr", b"kad-addr\x05", b"kad-addr\x01\x02\x01"):
            with self.subTest(payload):
                self.assertEqual(wire.announced(payload), ((), payload))


if __name__ == "__main__":
    unittest.main()
