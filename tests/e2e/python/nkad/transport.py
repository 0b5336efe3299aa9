"""QUIC connections with a certificate on both sides (docs/protocol.md, section 2).

aioquic checks the CertificateVerify signature whatever `verify_mode` says; CERT_NONE only leaves out chains, names and
dates, which this protocol does not look at. Its client shows a certificate when asked, so nothing had to be added.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, QuicEvent, StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicProtocolVersion
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from . import wire
from .records import Identity, Network, node_id

SERVER_NAME = "nkad"
REQUEST_STREAM = b"\x01"
BUSY = 1

HANDSHAKE_SECONDS = 5.0
ANSWER_SECONDS = 5.0
CLOSING_SECONDS = 2.0


class Unreachable(Exception):
    """No connection: nobody answers, the handshake failed, or somebody else is there."""

    def __init__(self, text: str, error_code: int | None = None) -> None:
        super().__init__(text)
        self.error_code = error_code


class NoAnswer(Exception):
    """The connection ended or the answer did not come in time."""


class Busy(Exception):
    """The request was not carried out; try later."""


class StreamWasReset(Exception):
    """The peer gave the stream up."""

    def __init__(self, error_code: int) -> None:
        super().__init__(f"error code {error_code}")
        self.error_code = error_code


def self_signed(private_key) -> x509.Certificate:
    """A certificate of which only the key counts."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, SERVER_NAME)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
    )
    return builder.sign(private_key, None)


class Connection(QuicConnectionProtocol):
    """One connection that we opened. `open` it, `request`, `close`."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._answers: dict[int, tuple[asyncio.Future[bytes], bytearray]] = {}
        self._ended: ConnectionTerminated | None = None
        self.peer_key = b""
        self.peer_id = b""

    @staticmethod
    async def open(
        socket: wire.Socket, identity: Identity, network: Network, expected_id: bytes | None = None
    ) -> Connection:
        """Connects, and proves who is there. Raises Unreachable, also when it is not `expected_id`."""
        configuration = QuicConfiguration(
            is_client=True,
            alpn_protocols=[network.alpn],
            server_name=SERVER_NAME,
            supported_versions=[QuicProtocolVersion.VERSION_1],
            verify_mode=ssl.CERT_NONE,
            certificate=self_signed(identity.private_key),
            private_key=identity.private_key,
        )
        connection = await Connection.open_with(configuration, socket)
        if expected_id is not None and connection.peer_id != expected_id:
            await connection.end()
            raise Unreachable(f"{connection.peer_id.hex()} is there instead of {expected_id.hex()}")
        return connection

    @staticmethod
    async def open_with(configuration: QuicConfiguration, socket: wire.Socket) -> Connection:
        """Connects with a configuration of the caller's making."""
        local = ("0.0.0.0" if socket.ip.version == 4 else "::", 0)
        _, connection = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Connection(QuicConnection(configuration=configuration)), local_addr=local
        )
        try:
            connection.connect((str(socket.ip), socket.port))
            await asyncio.wait_for(connection.wait_connected(), HANDSHAKE_SECONDS)
            connection._learn_peer()
        except (ConnectionError, TimeoutError, Unreachable) as error:
            await connection.end()
            raise connection._unreachable(error) from error
        return connection

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, Unreachable):
            return error
        if isinstance(error, ConnectionError) and self._ended is not None:
            return Unreachable(self._ended.reason_phrase, self._ended.error_code)
        return Unreachable("the handshake did not end in time")

    def _learn_peer(self) -> None:
        # aioquic has no public way to the peer's certificate.
        certificate = self._quic.tls._peer_certificate
        key = certificate.public_key() if certificate else None
        if not isinstance(key, Ed25519PublicKey):
            raise Unreachable("the peer's key is not an Ed25519 key")
        self.peer_key = key.public_bytes_raw()
        self.peer_id = node_id(self.peer_key)

    @property
    def is_open(self) -> bool:
        return self._ended is None

    async def request(self, request: wire.Request, read_only: bool = True) -> wire.Answer:
        """Sends a request and reads its answer. Raises Busy, NoAnswer, StreamWasReset or wire.Malformed."""
        return wire.decode_answer(await self.exchange(REQUEST_STREAM + wire.encode(request, read_only)))

    async def exchange(self, data: bytes) -> bytes:
        """Sends these bytes on a stream of their own and returns all that comes back."""
        if not self.is_open:
            raise NoAnswer("the connection has ended")
        stream = self._quic.get_next_available_stream_id()
        answer = asyncio.get_running_loop().create_future()
        self._answers[stream] = (answer, bytearray())
        self._quic.send_stream_data(stream, data, end_stream=True)
        self.transmit()
        try:
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        except TimeoutError:
            self._give_up(stream)
            raise NoAnswer("no answer in time") from None
        finally:
            self._answers.pop(stream, None)

    def _give_up(self, stream: int) -> None:
        if self.is_open:
            self._quic.stop_stream(stream, 0)
            self.transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case StreamDataReceived():
                self._data_received(event)
            case StreamReset() if event.stream_id in self._answers:
                future, _ = self._answers.pop(event.stream_id)
                error = Busy() if event.error_code == BUSY else StreamWasReset(event.error_code)
                _fail(future, error)
            case ConnectionTerminated():
                self._ended = event
                for future, _ in self._answers.values():
                    _fail(future, NoAnswer(f"the connection ended: {event.error_code:#x} {event.reason_phrase}"))
                self._answers.clear()

    def _data_received(self, event: StreamDataReceived) -> None:
        if event.stream_id not in self._answers:
            self._refuse_stream(event.stream_id)
            return
        future, data = self._answers[event.stream_id]
        data += event.data
        if len(data) > wire.MAX_FRAME:
            self._answers.pop(event.stream_id)
            _fail(future, wire.Malformed("the answer is too long"))
            self._give_up(event.stream_id)
        elif event.end_stream:
            self._answers.pop(event.stream_id)
            if not future.done():
                future.set_result(bytes(data))

    def _refuse_stream(self, stream: int) -> None:
        """We serve nobody: a stream that the peer opens is reset."""
        opened_by_peer, one_way = stream & 1, stream & 2
        if opened_by_peer and not one_way and self._quic._stream_can_send(stream):
            self._quic.reset_stream(stream, 0)

    async def end(self) -> None:
        """Closes the connection and its socket."""
        self.close()
        try:
            await asyncio.wait_for(self.wait_closed(), CLOSING_SECONDS)
        except TimeoutError:
            pass
        finally:
            self._transport.close()


def _fail(future: asyncio.Future[bytes], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
