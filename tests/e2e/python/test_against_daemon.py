"""The Python client against real nodes: what one implementation writes, the other reads."""

import asyncio
import secrets
import ssl
import time
import unittest
from dataclasses import replace

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from daemons import Daemons
from nkad import files, records, transport, wire
from nkad.lookup import Client, WasRejected, acknowledged
from nkad.records import Identity, Immutable, Mutable, Network, Provider, Refusal, distance
from nkad.transport import Connection, NoAnswer, StreamWasReset, Unreachable
from nkad.wire import Digest, Entry, FindValue, Reason, RecordKind, Verdict, Want

NODES = 5
NETWORK = Network()
DAY = 86400
# Nodes know each other at once, but about one time in a hundred two that joined at the same moment were not told of each
# other: they meet at their first refresh, some 5 seconds after joining.
SETTLE_SECONDS = 60

# Application error codes and alerts of section 2.
TOO_LARGE = 2
UNKNOWN_STREAM = 3
NO_APPLICATION_PROTOCOL = 0x178
CERTIFICATE_REQUIRED = 0x174

daemons: Daemons


def setUpModule():
    global daemons
    daemons = Daemons()
    unittest.addModuleCleanup(daemons.stop)
    daemons.start(NODES)
    asyncio.run(asyncio.wait_for(everybody_knows_everybody(), SETTLE_SECONDS))


async def everybody_knows_everybody():
    """Nodes say nothing when they have joined, so they are asked until each names all others."""
    ids = {node.contact.id for node in daemons.nodes}
    async with Client(Identity(), NETWORK) as client:
        for node in daemons.nodes:
            await client.join(node.socket)
            while {contact.id for contact in await client.find_node(node.contact, bytes(32))} < ids - {node.contact.id}:
                await asyncio.sleep(0.1)


class AgainstDaemons(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.identity = Identity()
        self.client = Client(self.identity, NETWORK)
        self.addAsyncCleanup(self.client.__aexit__)
        self.node = daemons.nodes[0]
        await self.client.join(self.node.socket, self.node.contact.id)
        self.now = int(time.time())

    def mutable(self, signer: Identity | None = None, network: Network = NETWORK, **changes) -> Mutable:
        fields = dict(seq=1, issued=self.now, expiry=self.now + DAY, salt=b"salt", value=b"value") | changes
        if fields.get("tombstone"):
            fields |= dict(value=b"", expiry=changes.get("expiry", self.now + NETWORK.max_lifetime))
        owner = changes.pop("owner", self.identity.public_key)
        return Mutable(owner=owner, **fields).signed(signer or self.identity, network)

    def provider(self, key: bytes, signer: Identity | None = None, **changes) -> Provider:
        signer = signer or self.identity
        fields = dict(issued=self.now, expiry=self.now + DAY, key=key, payload=b"here") | changes
        if fields.get("tombstone"):
            fields |= dict(payload=b"", expiry=fields["issued"] + NETWORK.max_lifetime)
        return Provider(provider=signer.public_key, **fields).signed(signer, NETWORK)


class Handshake(AgainstDaemons):
    async def test_a_node_proves_the_id_that_it_prints(self):
        for node in daemons.nodes:
            contact = await self.client.join(node.socket)
            self.assertEqual(contact.id, node.contact.id)

    async def test_a_node_that_is_not_the_expected_one_is_left(self):
        with self.assertRaises(Unreachable):
            await Connection.open(self.node.socket, self.identity, NETWORK, expected_id=bytes(32))

    async def test_a_node_of_another_network_ends_the_handshake(self):
        for other in (Network(name="other"), Network(k=21), Network(max_value=1000), Network(max_lifetime=60)):
            with self.subTest(other), self.assertRaises(Unreachable) as refused:
                await Connection.open(self.node.socket, self.identity, other)
            self.assertEqual(refused.exception.error_code, NO_APPLICATION_PROTOCOL)

    async def test_who_shows_no_certificate_is_refused(self):
        error = await self.first_request_with(self.configuration())
        self.assertIn(f"{CERTIFICATE_REQUIRED:#x}", error)

    async def test_who_shows_another_key_than_ed25519_is_refused(self):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nkad")])
        like = transport.self_signed(self.identity.private_key)
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
        builder = builder.not_valid_before(like.not_valid_before_utc).not_valid_after(like.not_valid_after_utc)
        error = await self.first_request_with(
            self.configuration(certificate=builder.sign(key, hashes.SHA256()), private_key=key)
        )
        self.assertIn("the connection ended", error)

    def configuration(self, **changes) -> QuicConfiguration:
        return QuicConfiguration(alpn_protocols=[NETWORK.alpn], verify_mode=ssl.CERT_NONE, **changes)

    async def first_request_with(self, configuration: QuicConfiguration) -> str:
        """In TLS 1.3 a client is done before the server has seen its certificate: the refusal meets its first request."""
        with self.assertRaises((NoAnswer, Unreachable)) as refused:
            connection = await Connection.open_with(configuration, self.node.socket)
            self.addAsyncCleanup(connection.end)
            await connection.request(wire.Ping())
        error = refused.exception
        code = getattr(error, "error_code", None)
        return str(error) if code is None else f"the connection ended: {code:#x}"


class Frames(AgainstDaemons):
    """What is done with frames that cannot be read; the connection stays open through all of it."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.connection = await Connection.open(self.node.socket, self.identity, NETWORK)
        self.addAsyncCleanup(self.connection.end)

    async def answer_to(self, frame: bytes) -> wire.Answer:
        answer = wire.decode_answer(await self.connection.exchange(b"\x01" + frame))
        self.assertIsInstance(await self.connection.request(wire.Ping()), wire.Pong)
        return answer

    async def test_what_is_not_known_is_unsupported(self):
        question = bytearray(wire.encode(FindValue(bytes(32), RecordKind.IMMUTABLE)))
        for name, frame in {
            "kind": b"\x01\x20\x00\x00",
            "an answer as a request": b"\x01\x81\x00\x00",
            "version": b"\x02\x01\x00\x00",
            "must-understand flag": b"\x01\x01\x10\x00",
            "record kind": bytes(question[:35]) + b"\x03\x00\x00\x00\x00",
            "want": bytes(question[:35]) + b"\x00\x02\x00\x00\x00",
        }.items():
            with self.subTest(name):
                self.assertEqual(await self.answer_to(frame), wire.Rejected(Reason.UNSUPPORTED))

    async def test_what_cannot_be_read_is_malformed(self):
        ping = wire.encode(wire.Ping())
        for name, frame in {
            "empty": b"",
            "no flags": ping[:2],
            "no extensions": ping[:3],
            "bytes left over": ping + b"\0",
            "half a target": wire.encode(wire.FindNode(bytes(32)))[:20],
            "a list longer than the frame": b"\x01\x04\x00\x40\x00",
            "a list over its maximum": b"\x01\x04\x00\x41" + b"\x00" * 300,
            "a marker that is none": b"\x01\x04\x00\xfe\x00",
            "an option that is neither": wire.encode(FindValue(bytes(32), 0))[:-2] + b"\x02\x00",
            "seventeen extensions": ping[:3] + b"\x11" + b"\x07\x00" * 17,
        }.items():
            with self.subTest(name):
                self.assertEqual(await self.answer_to(frame), wire.Rejected(Reason.MALFORMED))

    async def test_flags_and_extensions_that_may_be_ignored_are(self):
        self.assertIsInstance(await self.answer_to(b"\x01\x01\x0f\x00"), wire.Pong)
        self.assertIsInstance(await self.answer_to(b"\x01\x01\x01\x01\x07\x02hi"), wire.Pong)

    async def test_streams_that_are_no_requests_are_reset(self):
        for name, data, code in (
            ("unknown first byte", b"\x07abc", UNKNOWN_STREAM),
            ("a frame that is too large", b"\x01" + bytes(wire.MAX_FRAME + 1), TOO_LARGE),
        ):
            with self.subTest(name), self.assertRaises(StreamWasReset) as reset:
                await self.connection.exchange(data)
            self.assertEqual(reset.exception.error_code, code)
            self.assertIsInstance(await self.connection.request(wire.Ping()), wire.Pong)


class Routing(AgainstDaemons):
    async def test_pong_tells_the_time_and_our_address(self):
        pong = await self.client.ping(self.node.contact)
        self.assertLess(abs(pong.unix - self.now), 60)
        self.assertEqual([str(socket.ip) for socket in pong.observed], ["127.0.0.1"])

    async def test_nodes_are_the_nearest_without_the_one_who_answers(self):
        target = Identity().id
        contacts = await self.client.find_node(self.node.contact, target)
        others = [node.contact.id for node in daemons.nodes[1:]]
        # In which order is up to the node.
        self.assertEqual(self.sorted([contact.id for contact in contacts], target), self.sorted(others, target))

    async def test_a_lookup_through_one_node_finds_all(self):
        target = Identity().id
        found = await self.client.closest(target)
        self.assertEqual([contact.id for contact in found], self.sorted([n.contact.id for n in daemons.nodes], target))
        self.assertEqual({contact.address for contact in found}, {node.contact.address for node in daemons.nodes})

    async def test_who_is_read_only_is_put_into_no_table(self):
        other = Client(Identity(), NETWORK)
        self.addAsyncCleanup(other.__aexit__)
        for node in daemons.nodes:
            await other.join(node.socket)
            self.assertNotIn(self.identity.id, [c.id for c in await other.find_node(node.contact, self.identity.id)])

    async def test_the_command_finds_the_same_nodes(self):
        target = Identity().id
        answer = await daemons.ask("closest", target.hex())
        named = [contact["id"] for contact in answer["closest"]]
        self.assertEqual(named, [contact.id.hex() for contact in await self.client.closest(target)])

    @staticmethod
    def sorted(ids, target):
        return sorted(ids, key=lambda node: distance(node, target))


class Storing(AgainstDaemons):
    """One node, asked directly."""

    async def store(self, record, expected=None, remaining=DAY):
        on_wire = record.on_wire(remaining) if isinstance(record, Immutable) else record.on_wire()
        return (await self.client.store_at(self.node.contact, Entry(on_wire, expected)))[0]

    async def test_a_record_that_is_written_too_fast_is_refused_by_name(self):
        versions = [Entry(self.mutable(seq=seq, salt=b"fast").on_wire()) for seq in range(1, 21)]
        verdicts = await self.client.store_at(self.node.contact, *versions)
        self.assertEqual([code for code, _ in verdicts], [Verdict.STORED] * 16 + [Verdict.TOO_OFTEN] * 4)

    async def test_each_bad_record_costs_its_own_verdict(self):
        good = self.mutable()
        forged = replace(good, value=b"other").on_wire()
        long_ago, ahead = self.now - DAY, self.now + 2 * records.MAX_CLOCK_AHEAD
        entries = [
            (good.on_wire(), (Verdict.STORED, 0)),
            (forged, Refusal.BAD_SIGNATURE),
            (self.mutable(signer=Identity()).on_wire(), Refusal.BAD_SIGNATURE),
            (self.mutable(network=Network(name="other")).on_wire(), Refusal.BAD_SIGNATURE),
            (self.mutable(issued=long_ago, expiry=self.now - 1).on_wire(), Refusal.EXPIRED),
            (self.mutable(expiry=self.now + NETWORK.max_lifetime + 1).on_wire(), Refusal.BAD_LIFETIME),
            (self.mutable(tombstone=True, expiry=self.now + DAY).on_wire(), Refusal.BAD_LIFETIME),
            (self.mutable(issued=ahead, expiry=ahead + DAY).on_wire(), Refusal.FROM_THE_FUTURE),
            (self.provider(bytes(32), payload=bytes(records.MAX_PAYLOAD + 1)).on_wire(), Refusal.TOO_LARGE),
            (self.mutable(salt=bytes(records.MAX_SALT + 1)).on_wire(), Refusal.MALFORMED),
            (Immutable(b"none left").on_wire(0), Refusal.EXPIRED),
            (Immutable(b"too long").on_wire(NETWORK.max_lifetime + 1), Refusal.BAD_LIFETIME),
            (wire.WireRecord(DAY, b"\x02\x00\x00value"), Refusal.UNKNOWN_VERSION),
            (wire.WireRecord(DAY, b"\x01\x03\x00value"), Refusal.UNKNOWN_KIND),
            (wire.WireRecord(DAY, b"\x01\x00\x02value"), Refusal.UNKNOWN_KIND),
            (wire.WireRecord(DAY, b"\x01\x00"), Refusal.MALFORMED),
        ]
        verdicts = await self.client.store_at(self.node.contact, *(Entry(record) for record, _ in entries))
        for at, ((_, expected), verdict) in enumerate(zip(entries, verdicts, strict=True)):
            with self.subTest(at=at):
                self.assertEqual(verdict, (Verdict.REFUSED, expected) if isinstance(expected, Refusal) else expected)

    async def test_a_value_that_is_too_large_is_refused_and_the_largest_is_not(self):
        largest = Immutable(self.identity.id * (records.MAX_VALUE // 32))
        self.assertEqual(await self.store(Immutable(largest.value + b"!")), (Verdict.REFUSED, Refusal.TOO_LARGE))
        self.assertEqual(await self.store(largest), (Verdict.STORED, 0))
        found, _ = await self.client.find_at(self.node.contact, FindValue(largest.key, RecordKind.IMMUTABLE))
        self.assertEqual(found, [largest])

    async def test_a_key_of_small_order_signs_nothing(self):
        neutral = (1).to_bytes(32, "little")
        forged = replace(self.mutable(), owner=neutral, signature=neutral + bytes(32))
        self.assertEqual(await self.store(forged), (Verdict.REFUSED, Refusal.BAD_SIGNATURE))

    async def test_what_is_held_is_compared_and_fetched(self):
        record = Immutable(self.identity.id)
        self.assertEqual(await self.store(record), (Verdict.STORED, 0))
        connection = await Connection.open(self.node.socket, self.identity, NETWORK)
        self.addAsyncCleanup(connection.end)
        mark = records.record_digest(record)[:8]
        prefix = wire.Prefix(int.from_bytes(record.key[:8], "big"), 64)
        nothing, it = wire.Fingerprint(), wire.Fingerprint.of([records.record_digest(record)])
        for fingerprint, difference in ((nothing, wire.Listed([mark])), (it, wire.Same())):
            compared = await connection.request(wire.Compare([(prefix, fingerprint)]))
            self.assertEqual(compared, wire.Compared([difference]))
        fetched = await connection.request(wire.Fetch(prefix, sorted([mark, bytes(8)])))
        self.assertEqual([records.verify(found, NETWORK, self.now) for found in fetched.records], [record])
        whole = await connection.request(wire.Compare([(wire.Prefix(0, 0), nothing)]))
        match whole.differences:
            case [wire.Listed(marks)]:
                self.assertIn(mark, marks)
            case [wire.InParts(parts)]:
                self.assertGreater(parts[record.key[0] >> 4].count, 0)
            case other:
                self.fail(f"{other} where something is held")
        twice = await connection.request(wire.Compare([(prefix, nothing), (prefix, nothing)]))
        self.assertEqual(twice, wire.Rejected(Reason.MALFORMED))

    async def test_an_immutable_value_that_lives_longer_stays(self):
        value = Immutable(b"of " + self.identity.id)
        self.assertEqual(await self.store(value, remaining=1000), (Verdict.STORED, 0))
        self.assertEqual(await self.store(value, remaining=500), (Verdict.UNCHANGED, 0))
        self.assertEqual(await self.store(value, remaining=2000), (Verdict.STORED, 0))
        values = (await self.client.find_at(self.node.contact, FindValue(value.key, RecordKind.IMMUTABLE)))[1]
        self.assertTrue(1000 < values.found[0].remaining <= 2000)

    async def test_versions_and_compare_and_swap(self):
        first, second = self.mutable(seq=5), self.mutable(seq=6)
        self.assertEqual(await self.store(first, expected=4), (Verdict.CONFLICT, 0))
        self.assertEqual(await self.store(first, expected=0), (Verdict.STORED, 0))
        self.assertEqual(await self.store(first), (Verdict.UNCHANGED, 0))
        self.assertEqual(await self.store(second, expected=0), (Verdict.CONFLICT, 5))
        self.assertEqual(await self.store(second, expected=5), (Verdict.STORED, 0))
        self.assertEqual(await self.store(first), (Verdict.STALE, 6))
        rival = self.mutable(seq=6, value=b"z greater value")
        self.assertEqual(await self.store(rival), (Verdict.STORED, 0))
        self.assertEqual(await self.store(self.mutable(seq=6, tombstone=True)), (Verdict.STORED, 0))
        self.assertEqual(await self.store(rival), (Verdict.STALE, 6))

    async def test_compare_and_swap_of_a_provider_goes_by_its_date(self):
        record = self.provider(self.identity.id)
        self.assertEqual(await self.store(record, expected=0), (Verdict.STORED, 0))
        later = self.provider(self.identity.id, issued=self.now + 1)
        self.assertEqual(await self.store(later, expected=7), (Verdict.CONFLICT, self.now))
        self.assertEqual(await self.store(later, expected=self.now), (Verdict.STORED, 0))

    async def test_digests_and_versions_can_be_asked_for(self):
        record = self.mutable(seq=300)
        await self.store(record)
        question = FindValue(record.key, RecordKind.MUTABLE, Want.DIGEST, min_seq=300)
        found, _ = await self.client.find_at(self.node.contact, question)
        self.assertEqual(found, [Digest(300, records.record_digest(record))])
        found, values = await self.client.find_at(self.node.contact, replace(question, min_seq=301))
        self.assertEqual(found, [])
        self.assertTrue(values.contacts)

    async def test_providers_come_in_pages_in_the_order_of_their_ids(self):
        key = Identity().id
        signers = [Identity() for _ in range(wire.MAX_RECORDS + 6)]
        entries = [Entry(self.provider(key, signer).on_wire()) for signer in signers]
        verdicts = await self.client.store_at(self.node.contact, *entries[: wire.MAX_RECORDS])
        verdicts += await self.client.store_at(self.node.contact, *entries[wire.MAX_RECORDS :])
        self.assertEqual(acknowledged(verdicts), len(entries))
        right = sorted(signer.id for signer in signers)

        async def page(after: bytes | None) -> tuple[list[bytes], bytes | None]:
            question = FindValue(key, RecordKind.PROVIDER, after=after)
            found, values = await self.client.find_at(self.node.contact, question)
            return [records.node_id(record.provider) for record in found], values.next

        for start in (None, right[10], right[-1], bytes(32), secrets.token_bytes(32)):
            behind = [provider for provider in right if start is None or provider > start]
            round_trip = behind + right[: len(right) - len(behind)]
            first, after = await page(start)
            self.assertEqual((first, after), (round_trip[: wire.MAX_RECORDS], first[-1]))
            # It goes on past where it began, and whoever asks sees that it has gone round.
            second, after = await page(after)
            self.assertEqual(second[:6], round_trip[wire.MAX_RECORDS :])
            self.assertIsNotNone(after)
        self.assertEqual(set(await self.client.providers(key)), set(right))


class BothWays(AgainstDaemons):
    """What Python stores the command reads, and the other way round, through the whole network."""

    async def fetched(self, *arguments: str) -> tuple[dict, bytes]:
        path = daemons.directory / f"fetched-{self.identity.id.hex()}"
        answer = await daemons.ask(*arguments, "--output", str(path))
        return answer, path.read_bytes()

    async def test_immutable_from_python(self):
        value = Immutable(b"from Python to " + self.identity.id)
        self.assertEqual(acknowledged(await self.client.put(value)), NODES)
        self.assertEqual((await self.fetched("get", value.key.hex()))[1], value.value)

    async def test_immutable_from_the_command(self):
        value = b"from the command to " + self.identity.id
        key = (await daemons.ask("put", "-", stdin=value))["key"]
        self.assertEqual(key, Immutable(value).key.hex())
        self.assertEqual(await self.client.get_immutable(bytes.fromhex(key)), Immutable(value))

    async def test_a_file_from_python(self):
        data = self.identity.id * 6000
        parts = files.split(data, NETWORK)
        for part in parts:
            self.assertEqual(acknowledged(await self.client.put(part)), NODES)
        self.assertEqual((await self.fetched("get", parts[-1].key.hex()))[1], data)

    async def test_a_file_from_the_command(self):
        data = self.identity.id * 6000
        key = bytes.fromhex((await daemons.ask("put", "-", stdin=data))["key"])
        self.assertEqual(key, files.split(data, NETWORK)[-1].key)
        self.assertEqual(await self.client.get_file(key), data)

    async def test_mutable_from_python(self):
        for seq, value in ((1, b"old"), (2, b"new")):
            verdicts = await self.client.put(self.mutable(seq=seq, salt=b"blog", value=value), expected=seq - 1)
            self.assertEqual(acknowledged(verdicts), NODES)
        question = ("get-mutable", self.identity.public_key.hex(), "--salt", "blog")
        answer, value = await self.fetched(*question)
        self.assertEqual((answer["seq"], value), (2, b"new"))
        await self.client.put(self.mutable(seq=3, salt=b"blog", tombstone=True))
        path = daemons.directory / "nothing"
        await daemons.ask(*question, "--output", str(path), status=1)

    async def test_mutable_from_the_command(self):
        key_file = str(daemons.directory / f"{self.identity.id.hex()}.key")
        owner = bytes.fromhex((await daemons.command("key", "new", "--out", key_file))["public_key"])
        arguments = ("--key", key_file, "--salt", "blog")
        for seq, value in ((1, b"old"), (2, b"new")):
            answer = await daemons.ask("put-mutable", *arguments, "-", stdin=value)
            self.assertEqual(answer["seq"], seq)
        found = await self.client.get_mutable(owner, b"blog")
        self.assertEqual((found.seq, found.value, found.tombstone), (2, b"new", False))
        await daemons.ask("delete-mutable", *arguments)
        found = await self.client.get_mutable(owner, b"blog")
        self.assertEqual((found.seq, found.value, found.tombstone), (3, b"", True))

    async def test_a_card_is_kept_under_the_id_of_its_owner(self):
        card = self.mutable(salt=b"", value=b"card")
        self.assertEqual(card.key, self.identity.id)
        self.assertEqual(acknowledged(await self.client.put(card)), NODES)
        self.assertEqual(await self.client.get_mutable(self.identity.public_key, b""), card)
        for node in await self.client.closest(card.key):
            self.assertEqual(await self.client.card_at(node, card.key), card)
            self.assertIsNone(await self.client.card_at(node, Identity().id))

    async def test_provider_from_python(self):
        key = Identity().id
        self.assertEqual(acknowledged(await self.client.put(self.provider(key))), NODES)
        (listed,) = (await daemons.ask("providers", key.hex()))["providers"]
        self.assertEqual((listed["id"], listed["payload"]), (self.identity.id.hex(), "here"))
        await self.client.put(self.provider(key, issued=self.now + 1, tombstone=True))
        await daemons.ask("providers", key.hex(), status=1)
        self.assertEqual(await self.client.providers(key), {})

    async def test_provider_from_the_command(self):
        key = Identity().id
        key_file = str(daemons.directory / f"{self.identity.id.hex()}.key")
        node = bytes.fromhex((await daemons.command("key", "new", "--out", key_file))["id"])
        await daemons.ask("provide", key.hex(), "--key", key_file, "--payload", "there")
        found = await self.client.providers(key)
        self.assertEqual({id: record.payload for id, record in found.items()}, {node: b"there"})
        await daemons.ask("provide", key.hex(), "--key", key_file, "--withdraw")
        self.assertEqual(await self.client.providers(key), {})

    async def test_what_nobody_holds_is_not_found(self):
        key = Identity().id
        self.assertIsNone(await self.client.get_immutable(key))
        self.assertIsNone(await self.client.get_mutable(self.identity.public_key, b"none"))
        await daemons.ask("get", key.hex(), "--output", str(daemons.directory / "none"), status=1)


if __name__ == "__main__":
    unittest.main()
