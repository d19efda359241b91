"""RFC 9113 and gRPC on it: one connection in clear text, its streams, and messages in their frames."""

import socket
import time
from collections import deque
from urllib.parse import unquote

from . import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, _PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
END_STREAM = ACK = 1
END_HEADERS, PADDED, WITH_PRIORITY = 4, 8, 32
HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 4, 5

FRAME_BYTES = 16_384  # of a frame either way: the least that everybody takes
WINDOW = 1 << 20  # what a stream may send before it is told to go on
FIRST_WINDOW = 65_535
HEADERS_BYTES = 65_536
MESSAGE_BYTES = 64 << 20  # SPEC 16: the largest to a participant
UNSENT_BYTES = 64 << 20
SILENCE_S, ANSWER_S = 10, 10  # SPEC 16: a ping when nothing came, and the end when nothing comes then


class Lost(Exception):
    """The connection is broken, or the other side does not speak the protocol."""


class Stream:
    """One call. `inbox` has the messages that came; `ended` is (status, detail, reject token)."""

    def __init__(self, connection, number, send_window):
        self.connection, self.number = connection, number
        self.send_window, self.unsent = send_window, bytearray()
        self.finishing = False
        self.part, self.inbox, self.ended = bytearray(), deque(), None
        self.headers = {}
        self.owed = 0  # bytes of the window that are not given back yet

    def send(self, message):
        self.unsent += b"\0" + len(message).to_bytes(4, "big") + message
        if len(self.unsent) > UNSENT_BYTES:
            raise Lost("the other side takes nothing")
        self.connection.pump()

    def finish(self):
        """No more messages from here."""
        self.finishing = True
        self.connection.pump()

    def next(self):
        """The first message that came."""
        message = self.inbox.popleft()
        self.give_back()
        return message

    def give_back(self):
        """Not before what came was read: whoever sends faster than it is read waits."""
        if self.owed and not self.inbox and self.ended is None:
            self.connection.widen(self.number, self.owed)
            self.owed = 0

    def take(self, data):
        self.part += data
        while len(self.part) >= 5:
            length = int.from_bytes(self.part[1:5], "big")
            if self.part[0]:
                raise Lost("a message is compressed")
            if length > MESSAGE_BYTES:
                raise Lost("a message is larger than it may be")
            if len(self.part) < 5 + length:
                return
            self.inbox.append(bytes(self.part[5 : 5 + length]))
            del self.part[: 5 + length]

    def end(self):
        headers = self.headers
        status = headers.get("grpc-status", "http " + headers.get(":status", "?"))
        self.ended = status, unquote(headers.get("grpc-message", "")), headers.get("tutti-reject")


class Connection:
    def __init__(self, host, port, timeout=10):
        try:
            self.socket = socket.create_connection((host, port), timeout)
        except OSError as error:
            raise Lost(f"no connection to {host}:{port}: {error}") from None
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.authority = f"{host}:{port}"
        self.streams, self.next_number = {}, 1
        self.send_window, self.first_window, self.frame_bytes = FIRST_WINDOW, FIRST_WINDOW, FRAME_BYTES
        self.received, self.to_send = bytearray(), bytearray(PREFACE)
        self.decoder, self.block = hpack.Decoder(), None
        self.heard = time.monotonic()
        self.pinged = None
        settings = ((ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, WINDOW), (MAX_FRAME_SIZE, FRAME_BYTES))
        pairs = (key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings)
        self._frame(SETTINGS, 0, 0, b"".join(pairs))
        self._frame(WINDOW_UPDATE, 0, 0, (4 * WINDOW - FIRST_WINDOW).to_bytes(4, "big"))

    def fileno(self):
        return self.socket.fileno()

    def close(self):
        self.socket.close()

    def call(self, path):
        stream = Stream(self, self.next_number, self.first_window)
        self.streams[self.next_number] = stream
        self.next_number += 2
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path)]
        headers += [(":authority", self.authority), ("content-type", "application/grpc")]
        headers += [("te", "trailers"), ("user-agent", "tutti-python/1")]
        self._frame(HEADERS, END_HEADERS, stream.number, hpack.encode(headers))
        return stream

    def cancel(self, stream):
        if stream.ended is None:
            self._frame(RST_STREAM, 0, stream.number, (8).to_bytes(4, "big"))
        self.streams.pop(stream.number, None)

    def _frame(self, kind, flags, number, payload):
        length = len(payload).to_bytes(3, "big")
        self.to_send += length + bytes([kind, flags]) + number.to_bytes(4, "big") + payload

    def pump(self):
        """Puts what the windows allow into frames, and these on their way."""
        for stream in self.streams.values():
            while stream.unsent and min(self.send_window, stream.send_window) > 0:
                most = min(self.send_window, stream.send_window, self.frame_bytes)
                data = bytes(stream.unsent[:most])
                del stream.unsent[:most]
                self.send_window -= len(data)
                stream.send_window -= len(data)
                self._frame(DATA, 0, stream.number, data)
            if stream.finishing and not stream.unsent:
                stream.finishing = False
                self._frame(DATA, END_STREAM, stream.number, b"")
        if len(self.to_send) > UNSENT_BYTES:
            raise Lost("the other side takes nothing")
        self.flush()

    def flush(self):
        try:
            while self.to_send:
                del self.to_send[: self.socket.send(self.to_send[:262_144])]
        except BlockingIOError:
            pass
        except OSError as error:
            raise Lost(str(error)) from None

    def watch(self):
        """A ping when nothing came for long; the end when nothing comes then."""
        now = time.monotonic()
        if self.pinged is not None and now - self.pinged > ANSWER_S:
            raise Lost("nothing comes any more")
        if self.pinged is None and now - self.heard > SILENCE_S:
            self.pinged = now
            self._frame(PING, 0, 0, b"\0\1\2\3\4\5\6\7")
            self.flush()

    def receive(self):
        """Reads what is there, and sorts it into the streams."""
        try:
            data = self.socket.recv(262_144)
        except BlockingIOError:
            return
        except OSError as error:
            raise Lost(str(error)) from None
        if not data:
            raise Lost("the other side closed the connection")
        self.heard, self.pinged = time.monotonic(), None
        self.received += data
        at = 0
        while len(self.received) - at >= 9:
            length = int.from_bytes(self.received[at : at + 3], "big")
            if length > FRAME_BYTES:
                raise Lost("a frame is too large")
            if len(self.received) - at < 9 + length:
                break
            kind, flags = self.received[at + 3], self.received[at + 4]
            number = int.from_bytes(self.received[at + 5 : at + 9], "big") & 0x7FFFFFFF
            self._take(kind, flags, number, bytes(self.received[at + 9 : at + 9 + length]))
            at += 9 + length
        del self.received[:at]
        self.pump()

    def _take(self, kind, flags, number, payload):
        if (self.block is not None) != (kind == CONTINUATION):
            raise Lost("headers are interrupted")
        stream = self.streams.get(number)
        if kind == DATA:
            if payload:  # each stream's own window bounds what waits
                self.widen(0, len(payload))
            if stream:
                stream.owed += len(payload)
                stream.take(_unpadded(flags, payload))
                self._end(stream, flags)
                stream.give_back()
        elif kind == HEADERS:
            payload = _unpadded(flags, payload)
            self.block = number, flags & END_STREAM, payload[5 if flags & WITH_PRIORITY else 0 :]
            self._headers(flags)
        elif kind == CONTINUATION:
            if self.block[0] != number or len(self.block[2]) + len(payload) > HEADERS_BYTES:
                raise Lost("headers are too long")
            self.block = number, self.block[1], self.block[2] + payload
            self._headers(flags)
        elif kind == RST_STREAM:
            if stream and len(payload) == 4:
                stream.ended = f"reset {int.from_bytes(payload, 'big')}", "", None
                del self.streams[number]
        elif kind == SETTINGS:
            if not flags & ACK:
                self._settings(payload)
        elif kind == PING:
            if not flags & ACK:
                self._frame(PING, ACK, 0, payload)
        elif kind == GOAWAY:
            code, said = int.from_bytes(payload[4:8], "big"), payload[8:].decode("latin-1")
            if code:
                raise Lost(f"the other side ends the connection: code {code} {said[:200]}".strip())
        elif kind == WINDOW_UPDATE:
            self._widen(number, stream, payload)
        elif kind == PUSH_PROMISE:
            raise Lost("a push, which was not asked for")

    def widen(self, number, more):
        """The other side may send so many bytes more."""
        self._frame(WINDOW_UPDATE, 0, number, more.to_bytes(4, "big"))

    def _settings(self, payload):
        for at in range(0, len(payload) - 5, 6):
            key, value = (int.from_bytes(payload[at + a : at + b], "big") for a, b in ((0, 2), (2, 6)))
            if key == INITIAL_WINDOW_SIZE:
                for stream in self.streams.values():
                    stream.send_window += value - self.first_window
                self.first_window = value
            elif key == MAX_FRAME_SIZE:
                self.frame_bytes = min(max(value, FRAME_BYTES), 1 << 20)
        self._frame(SETTINGS, ACK, 0, b"")

    def _widen(self, number, stream, payload):
        more = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        if number == 0:
            self.send_window += more
        elif stream:
            stream.send_window += more
        if self.send_window >= 1 << 31 or stream and stream.send_window >= 1 << 31:
            raise Lost("a window is too large")

    def _headers(self, flags):
        if not flags & END_HEADERS:
            return
        number, ends, block = self.block
        self.block = None
        try:
            headers = self.decoder.decode(block)
        except hpack.HeadersError as error:
            raise Lost(f"headers do not decode: {error}") from None
        if stream := self.streams.get(number):
            stream.headers.update(headers)
            self._end(stream, ends)

    def _end(self, stream, flags):
        if flags & END_STREAM:
            stream.end()
            del self.streams[stream.number]


def _unpadded(flags, payload):
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Lost("padding is too long")
    return payload[1 : len(payload) - payload[0]]
