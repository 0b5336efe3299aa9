"""A read-only client: looking up, getting and putting (docs/protocol.md, section 9).

Every answer is checked as section 7 says before anything of it is used; an answer that breaks a rule fails the node
that sent it, for this lookup.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from . import files, records, wire
from .records import Identity, Immutable, Mutable, Network, Provider, Record, distance
from .transport import Busy, Connection, NoAnswer, StreamWasReset, Unreachable
from .wire import Contact, Digest, Entry, FindNode, FindValue, Ping, RecordKind, Stored, Verdict, Want

T = TypeVar("T")

ALPHA = 3
# A shortlist holds the k nearest and this many times as many to replace those that fail.
SPARE = 4
# A provider list of this many pages is longer than any node of the network may keep.
MAX_PAGES = 64


class BadAnswer(Exception):
    """The answer is no answer to the request, or holds what does not verify."""


class WasRejected(Exception):
    """The node answered REJECTED."""

    def __init__(self, reason: int) -> None:
        super().__init__(f"reason {reason}")
        self.reason = reason


FAILURES = (Unreachable, NoAnswer, Busy, StreamWasReset, wire.Malformed, wire.Unsupported, BadAnswer, WasRejected)


class Client:
    """Asks the network; use it in `async with`."""

    def __init__(self, identity: Identity, network: Network) -> None:
        self.identity = identity
        self.network = network
        self._known: dict[bytes, Contact] = {}
        self._pool: dict[bytes, Connection] = {}
        self._dialling: dict[bytes, asyncio.Lock] = {}

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_) -> None:
        await asyncio.gather(*(connection.end() for connection in self._pool.values()))
        self._pool.clear()

    # One node.

    async def join(self, socket: wire.Socket, expected_id: bytes | None = None) -> Contact:
        """Connects to a node by its address alone and PINGs it."""
        connection = await Connection.open(socket, self.identity, self.network, expected_id)
        await self._keep(connection)
        contact = Contact(connection.peer_id, (socket,))
        await self.ping(contact)
        self._known[contact.id] = contact
        return contact

    async def ping(self, contact: Contact) -> wire.Pong:
        return await self._ask(contact, Ping(), wire.Pong)

    async def find_node(self, contact: Contact, target: bytes) -> list[Contact]:
        return (await self._ask(contact, FindNode(target), wire.Nodes)).contacts

    async def card_at(self, contact: Contact, node: bytes) -> Mutable | None:
        """The card of a node, if this one holds it."""
        nodes: wire.Nodes = await self._ask(contact, FindNode(node, wants_card=True), wire.Nodes)
        if nodes.card is None:
            return None
        question = FindValue(node, RecordKind.MUTABLE)
        return self._check_found(wire.WireRecord(0, nodes.card), question)

    async def store_at(self, contact: Contact, *entries: Entry) -> list[tuple[int, int]]:
        stored: Stored = await self._ask(contact, wire.Store(list(entries)), Stored)
        if len(stored.verdicts) != len(entries):
            raise BadAnswer("not one verdict for each record")
        return stored.verdicts

    async def find_at(self, contact: Contact, question: FindValue) -> tuple[list[Record | Digest], wire.Values]:
        """One FIND_VALUE, its answer checked."""
        values: wire.Values = await self._ask(contact, question, wire.Values)
        found = [self._check_found(item, question) for item in values.found]
        is_page = question.record_kind == RecordKind.PROVIDER
        if len(found) > 1 and not is_page:
            raise BadAnswer("more than one record in a slot")
        turns = [question.turn_of(records.node_id(record.provider)) for record in found if isinstance(record, Provider)]
        if any(turn <= before for before, turn in zip(turns, turns[1:])):
            raise BadAnswer("providers out of their order")
        if values.next is not None:
            if not is_page or values.next == question.after:
                raise BadAnswer("a page that does not advance")
            if turns and question.turn_of(values.next) < turns[-1]:
                raise BadAnswer("a page that leads back")
        return found, values

    def _check_found(self, item: wire.WireRecord | Digest, question: FindValue) -> Record | Digest:
        if isinstance(item, Digest) != (question.want == Want.DIGEST):
            raise BadAnswer("not the form that was wanted")
        if isinstance(item, Digest):
            return item
        try:
            record = records.verify(item, self.network, int(time.time()))
        except records.Refused as refused:
            raise BadAnswer(f"a record that does not verify: {refused}") from refused
        if record.KIND != question.record_kind or record.key != question.key:
            raise BadAnswer("a record of another slot")
        if isinstance(record, Mutable) and record.seq < question.min_seq:
            raise BadAnswer("an older version than the one asked for")
        return record

    async def _ask(self, contact: Contact, request: wire.Request, expected: type[T]) -> T:
        answer = await self._exchange(contact, request)
        if isinstance(answer, wire.Rejected):
            if answer.reason == wire.Reason.BUSY:
                raise Busy
            raise WasRejected(answer.reason)
        if not isinstance(answer, expected):
            raise BadAnswer(f"{type(answer).__name__} is no answer to {type(request).__name__}")
        return answer

    async def _exchange(self, contact: Contact, request: wire.Request) -> wire.Answer:
        """Asks over a pooled connection, and dials once more where that one turns out dead."""
        pooled = self._pool.get(contact.id)
        if pooled is not None and pooled.is_open:
            try:
                return await pooled.request(request)
            except NoAnswer:
                if pooled.is_open:
                    raise
        return await (await self._connect(contact)).request(request)

    async def _connect(self, contact: Contact) -> Connection:
        async with self._dialling.setdefault(contact.id, asyncio.Lock()):
            pooled = self._pool.get(contact.id)
            if pooled is not None and pooled.is_open:
                return pooled
            failure = Unreachable("a contact without an address")
            for socket in contact.address:
                try:
                    connection = await Connection.open(socket, self.identity, self.network, contact.id)
                except Unreachable as error:
                    failure = error
                    continue
                await self._keep(connection)
                return connection
            raise failure

    async def _keep(self, connection: Connection) -> None:
        """One connection for each node: an older one is closed."""
        older = self._pool.get(connection.peer_id)
        self._pool[connection.peer_id] = connection
        if older is not None:
            await older.end()

    # Many nodes.

    async def lookup(self, target: bytes, ask: Callable[[Contact], Awaitable[list[Contact]]]) -> list[Contact]:
        """The k nearest nodes that answered. `ask` puts the question to one node and returns the contacts it named."""
        shortlist = {contact.id: contact for contact in self._known.values()}
        asked: set[bytes] = set()
        failed: set[bytes] = set()

        def nearest() -> list[Contact]:
            alive = [contact for contact in shortlist.values() if contact.id not in failed]
            return sorted(alive, key=lambda contact: distance(contact.id, target))[: self.network.k]

        async def ask_one(contact: Contact) -> list[Contact]:
            asked.add(contact.id)
            try:
                return await ask(contact)
            except FAILURES:
                failed.add(contact.id)
                return []

        width = ALPHA
        while batch := [contact for contact in nearest() if contact.id not in asked][:width]:
            nearest_before = nearest()[0].id
            for contacts in await asyncio.gather(*map(ask_one, batch)):
                for contact in contacts:
                    self._add(shortlist, contact, target, asked)
            still_nearest = nearest()[:1]
            progress = bool(still_nearest) and distance(still_nearest[0].id, target) < distance(nearest_before, target)
            width = ALPHA if progress else self.network.k
        found = nearest()
        self._known.update((contact.id, contact) for contact in found)
        return found

    def _add(self, shortlist: dict[bytes, Contact], contact: Contact, target: bytes, asked: set[bytes]) -> None:
        if contact.id == self.identity.id or not contact.address or contact.id in shortlist:
            return
        shortlist[contact.id] = contact
        unasked = [known for known in shortlist if known not in asked]
        if len(unasked) > SPARE * self.network.k:
            del shortlist[max(unasked, key=lambda known: distance(known, target))]

    async def closest(self, target: bytes) -> list[Contact]:
        return await self.lookup(target, lambda contact: self.find_node(contact, target))

    async def get_immutable(self, key: bytes) -> Immutable | None:
        """The immutable record of a key. It proves itself, so the first that is found will do."""
        question = FindValue(key, RecordKind.IMMUTABLE)
        found = await self._gather_records(question, enough=1)
        return found[0] if found else None

    async def get_file(self, key: bytes) -> bytes:
        """The bytes of a file of any size. Raises files.BadFile where a part is missing or wrong."""
        return await files.read(key, self.get_immutable, self.network)

    async def get_mutable(self, owner: bytes, salt: bytes, min_seq: int = 0) -> Mutable | None:
        """The greatest version that the k nearest nodes hold; it may be a tombstone."""
        question = FindValue(records.mutable_key(owner, salt), RecordKind.MUTABLE, min_seq=min_seq)
        found = await self._gather_records(question)
        return max(found, key=lambda record: record.rank, default=None)

    async def providers(self, key: bytes) -> dict[bytes, Provider]:
        """The providers of a key that were not withdrawn, by their node ids."""
        newest: dict[bytes, Provider] = {}
        # Anywhere, or those with the smallest ids would be found most.
        start = secrets.token_bytes(32)
        turn = FindValue(key, RecordKind.PROVIDER, after=start).turn_of

        async def ask(contact: Contact) -> list[Contact]:
            contacts: list[Contact] = []
            after = start
            for _ in range(MAX_PAGES):
                found, values = await self.find_at(contact, FindValue(key, RecordKind.PROVIDER, after=after))
                contacts += values.contacts
                for record in found:
                    held = newest.get(records.node_id(record.provider))
                    if held is None or record.rank > held.rank:
                        newest[records.node_id(record.provider)] = record
                # Until it has gone round.
                if values.next is None or values.next == start or (after != start and turn(values.next) <= turn(after)):
                    break
                after = values.next
            # Contacts may be left out when something was found.
            return contacts or await self.find_node(contact, key)

        await self.lookup(key, ask)
        return {node: record for node, record in newest.items() if not record.tombstone}

    async def _gather_records(self, question: FindValue, enough: int | None = None) -> list[Record]:
        found: list[Record] = []

        async def ask(contact: Contact) -> list[Contact]:
            if enough is not None and len(found) >= enough:
                return []
            here, values = await self.find_at(contact, question)
            found.extend(here)
            return values.contacts or await self.find_node(contact, question.key)

        await self.lookup(question.key, ask)
        return found

    async def put(self, record: Record, lifetime: int = 86400, expected: int | None = None) -> list[tuple[int, int]]:
        """Stores a record on the k nearest nodes to its key. Returns the verdicts of those that answered."""
        on_wire = record.on_wire(lifetime) if isinstance(record, Immutable) else record.on_wire()
        nodes = await self.closest(record.key)

        async def store(contact: Contact) -> list[tuple[int, int]]:
            try:
                return await self.store_at(contact, Entry(on_wire, expected))
            except FAILURES:
                return []

        return [verdict for verdicts in await asyncio.gather(*map(store, nodes)) for verdict in verdicts]


def acknowledged(verdicts: list[tuple[int, int]]) -> int:
    """How many of the verdicts say that the record is held."""
    return sum(code in (Verdict.STORED, Verdict.UNCHANGED) for code, _ in verdicts)
