"""RFC 7541: headers of HTTP/2. What is sent are literals; what comes is decoded in full."""

STATIC = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""),
    ("vary", ""), ("via", ""), ("www-authenticate", ""),
]  # fmt: skip
TABLE_BYTES = 4_096
TEXT_BYTES = 16_384

# Appendix B: the lengths of the codes of bytes 0 to 255 and of the end. The code is canonical, so
# they suffice: of one length, codes ascend with the bytes.
LENGTHS = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
]  # fmt: skip


class HeadersError(Exception):
    pass


def _codes():
    codes, code, before = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(LENGTHS)):
        code <<= length - before
        codes[length, code] = symbol
        code, before = code + 1, length
    return codes


CODES = _codes()


def _huffman(data):
    out, code, length = bytearray(), 0, 0
    for byte in data:
        for shift in range(7, -1, -1):
            code, length = code << 1 | byte >> shift & 1, length + 1
            if (symbol := CODES.get((length, code))) is not None:
                if symbol == 256:
                    raise HeadersError("the end inside a text")
                out.append(symbol)
                code = length = 0
    if length > 7 or code != (1 << length) - 1:
        raise HeadersError("padding of a text")
    return bytes(out)


class Decoder:
    """Of one connection: the table of headers that were sent before."""

    def __init__(self):
        self.table, self.limit = [], TABLE_BYTES

    def decode(self, block):
        self.block, self.at, headers = block, 0, []
        while self.at < len(block):
            first = block[self.at]
            if first & 0x80:
                headers.append(self._entry(self._integer(7)))
            elif first & 0xE0 == 0x20:
                self.limit = self._integer(5)
                if self.limit > TABLE_BYTES:
                    raise HeadersError("the table is too large")
                self._evict()
            else:
                indexed = first & 0xC0 == 0x40
                place = self._integer(6 if indexed else 4)
                name = self._entry(place)[0] if place else self._text()
                headers.append((name, self._text()))
                if indexed:
                    self.table.insert(0, headers[-1])
                    self._evict()
        return headers

    def _evict(self):
        while sum(len(name) + len(value) + 32 for name, value in self.table) > self.limit:
            self.table.pop()

    def _entry(self, place):
        entries = STATIC if place <= len(STATIC) else self.table
        place -= 1 if place <= len(STATIC) else len(STATIC) + 1
        if not 0 <= place < len(entries):
            raise HeadersError("no such entry")
        return entries[place]

    def _byte(self):
        if self.at == len(self.block):
            raise HeadersError("it is cut off")
        self.at += 1
        return self.block[self.at - 1]

    def _integer(self, bits):
        most = (1 << bits) - 1
        n, shift = self._byte() & most, 0
        if n < most:
            return n
        while True:
            byte = self._byte()
            n += (byte & 127) << shift
            shift += 7
            if byte < 128:
                return n
            if shift > 28:
                raise HeadersError("a number is too large")

    def _text(self):
        huffman = self.at < len(self.block) and self.block[self.at] & 0x80
        length = self._integer(7)
        data = self.block[self.at : self.at + length]
        if len(data) < length or length > TEXT_BYTES:
            raise HeadersError("a text is cut off or too long")
        self.at += length
        return (_huffman(data) if huffman else data).decode("latin-1")


def _put_length(n):
    if n < 127:
        return bytes([n])
    out, n = b"\x7f", n - 127
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def encode(headers):
    """Literals without indexing and without Huffman's code."""
    texts = (text.encode() for header in headers for text in header)
    put = [_put_length(len(text)) + text for text in texts]
    return b"".join(b"\0" + name + value for name, value in zip(put[::2], put[1::2]))
