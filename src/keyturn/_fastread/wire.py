"""
A few requests to one server, from a process that has no time for a client library.

`vault` and `aws` beside it ask here whether what is sealed is still
true. `http.client` alone costs more than the whole of `keyturn run`, so the little of
HTTP/1.1 that is needed stands here, and is strict: whatever is not plainly an answer to
what was asked is `Unreadable`, and the caller takes the slow path, which asks again with
`keyturn._internal.http` and says what is wrong. Nothing is tried twice, no redirect is
followed, and no proxy, credential or setting is taken from the environment.
"""

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterable

SECONDS = 2.0  # for all requests together, the connection's making among them
_LIMIT_BYTES = 2 * 1_048_576  # 20 values of 64 KiB, in JSON
_HEAD_BYTES = 64 * 1024
_HEADERS = 100
_CHUNK_LINE_BYTES = 256
_READ_BYTES = 65_536
_SIZE_DIGITS = 8
_NO_CONTENT = 204
_PRINTABLE = bytes(range(0x20, 0x7F))
_NAME = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Unreadable(Exception):
    """There is no answer that can be relied on. Of what was sent or read nothing is quoted."""


class Answer:
    """
    What a server answered.

    Args:
        headers: By name in lower case.
        body: It may hold values.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: "dict[bytes, bytes]", body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Reader:
    """
    Reads answers, one after the other.

    Args:
        receive: Returns what came next, or nothing at the end.
    """

    def __init__(self, receive: "Callable[[], bytes]") -> None:
        self._receive = receive
        self._waiting = bytearray()

    def answer(self) -> Answer:
        """
        Return the next answer, which has to be the last that came.

        Raises:
            Unreadable: It is cut, too long, followed by something else, or no answer.
        """
        status, headers = _parsed_head(self._until(b"\r\n\r\n", _HEAD_BYTES))
        body = self._body(status, headers)
        if self._waiting:
            raise Unreadable
        return Answer(status, headers, body)

    def _body(self, status: int, headers: "dict[bytes, bytes]") -> bytes:
        length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise Unreadable
        if coding is not None:
            if coding.lower() != b"chunked" or length is not None:
                raise Unreadable
            return self._chunks()
        if length is None:
            if status != _NO_CONTENT:
                raise Unreadable  # it would end when the server hangs up, as one that is cut does
            return b""
        if not length.isdigit() or len(length) > _SIZE_DIGITS:
            raise Unreadable
        return self._exactly(int(length))

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            digits = self._until(b"\r\n", _CHUNK_LINE_BYTES).partition(b";")[0].strip(b" \t")
            if not 0 < len(digits) <= _SIZE_DIGITS or digits.strip(b"0123456789abcdefABCDEF"):
                raise Unreadable
            size = int(digits, 16)
            if len(body) + size > _LIMIT_BYTES:
                raise Unreadable
            body += self._exactly(size)
            if self._exactly(2) != b"\r\n":  # after the last one: no trailers are expected
                raise Unreadable
            if size == 0:
                return bytes(body)

    def _until(self, end: bytes, limit: int) -> bytes:
        """Return what comes before *end*, and take both."""
        at = self._waiting.find(end)
        while at < 0 and len(self._waiting) <= limit:
            self._more()
            at = self._waiting.find(end)
        if not 0 <= at <= limit:
            raise Unreadable
        found = bytes(self._waiting[:at])
        del self._waiting[: at + len(end)]
        return found

    def _exactly(self, size: int) -> bytes:
        if size > _LIMIT_BYTES:
            raise Unreadable
        while len(self._waiting) < size:
            self._more()
        found = bytes(self._waiting[:size])
        del self._waiting[:size]
        return found

    def _more(self) -> None:
        data = self._receive()
        if not data:
            raise Unreadable
        self._waiting += data


def _parsed_head(head: bytes) -> "tuple[int, dict[bytes, bytes]]":
    first, *lines = head.split(b"\r\n")
    digits = first[9:12]
    if not first.startswith(b"HTTP/1.1 ") or not digits.isdigit() or first[12:13] not in b" ":
        raise Unreadable
    if len(lines) > _HEADERS or len(digits) != 3 or digits < b"200":  # noqa: PLR2004 - the digits of a status
        raise Unreadable
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, text = line.partition(b":")
        low = name.lower()
        if not colon or not name or name.strip(_NAME) or (low in headers and _counts(low)):
            raise Unreadable
        headers[low] = text.strip(b" \t")
    return int(digits), headers


def _counts(name: bytes) -> bool:
    """Tell whether a second header of that *name* would leave the answer's end in doubt."""
    return name in {b"content-length", b"transfer-encoding", b"content-encoding"}


class Server:
    """
    One connection, made when it is first needed.

    Args:
        rows: What is said of it: `host`, `port`, `authority`, `tls`, `ca_file`, by name.
    """

    def __init__(self, rows: "dict[bytes, bytes]") -> None:
        self._rows = rows
        self._until = time.monotonic() + SECONDS
        self._raw = self._connected()
        self._reader = Reader(self._received)

    def send(
        self, method: bytes, path: bytes, headers: "Iterable[tuple[bytes, bytes]]", body: bytes
    ) -> Answer:
        """
        Send one request and return the answer.

        Raises:
            Unreadable: There is none in time, or it is not plainly one.
        """
        sent = [
            (b"Host", self._rows[b"authority"]),
            (b"Accept-Encoding", b"identity"),
            *headers,
        ]
        if body or method != b"GET":
            sent.append((b"Content-Length", b"%d" % len(body)))
        lines = [method + b" " + path + b" HTTP/1.1"]
        for name, text in sent:
            if text.strip(_PRINTABLE):
                raise Unreadable  # the slow path says which
            lines.append(name + b": " + text)
        try:
            self._raw.settimeout(self._left())
            self._raw.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            return self._reader.answer()
        except OSError:
            # Without its cause: no error of the system's may quote what was sent.
            raise Unreadable from None

    def close(self) -> None:
        """Let the connection go."""
        self._raw.close()

    def _left(self) -> float:
        seconds = self._until - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def _received(self) -> bytes:
        self._raw.settimeout(self._left())
        return self._raw.recv(_READ_BYTES)

    def _connected(self) -> "_socket.socket":
        try:
            return self._secured() if self._rows[b"tls"] == b"yes" else self._plain()
        except OSError:
            raise Unreadable from None

    def _plain(self) -> "_socket.socket":
        # `socket` wraps this one, and costs as much as half of what we have.
        from _socket import SOCK_STREAM, getaddrinfo, socket

        # As bytes: text would be encoded by a module that is large.
        host, port = self._rows[b"host"], int(self._rows[b"port"])
        refused: OSError = ConnectionRefusedError()
        for family, kind, protocol, _, address in getaddrinfo(host, port, 0, SOCK_STREAM):
            raw = socket(family, kind, protocol)
            try:
                raw.settimeout(self._left())
                raw.connect(address)
            except OSError as error:
                raw.close()
                refused = error
            else:
                return raw
        raise refused

    def _secured(self) -> "_socket.socket":
        import socket
        import ssl

        host = self._rows[b"host"].decode("ascii")
        ca_file = self._rows.get(b"ca_file")
        trust = ssl.create_default_context(cafile=None if ca_file is None else ca_file.decode())
        raw = socket.create_connection((host, int(self._rows[b"port"])), timeout=self._left())
        try:
            raw.settimeout(self._left())
            return trust.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise


def parsed(data: bytes) -> object:
    """
    Return the JSON document *data*.

    Raises:
        Unreadable: It is none.
    """
    # The half of `json` that is written in C; the other one imports `re`.
    from _json import make_scanner

    try:
        text = data.decode("utf-8").strip(" \t\r\n")
        found, end = make_scanner(_Scanning)(text, 0)  # type: ignore[arg-type]  # it takes any
    except (ValueError, StopIteration, RecursionError, SystemError):
        # The last where `json.decoder`, of which it would take the error, is not imported.
        raise Unreadable from None
    if end != len(text):
        raise Unreadable
    return found


class _Scanning:
    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(_: str) -> object:
        raise ValueError


def within(found: object, *path: str) -> object:
    """Return what is at *path* of a document; None where there is nothing."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def of_file(path: bytes) -> bytes:
    """
    Return the one line in the file *path*.

    Raises:
        Unreadable: It is not a plain file that holds one.
    """
    import os

    try:
        # Not blocking: a pipe in the file's place would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            is_plain = os.fstat(descriptor).st_mode & 0o170000 == 0o100000  # noqa: PLR2004 - a file's kind
            data = os.read(descriptor, _READ_BYTES).strip() if is_plain else b""
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        raise Unreadable from None
    if not data or len(data) > _READ_BYTES - 2 or data.strip(_PRINTABLE):
        raise Unreadable
    return data
