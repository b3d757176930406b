"""What the fast path takes for an answer of a server; everything else is one error, at once."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyturn._fastread.wire import Reader, Server, Unreadable, of_file, parsed, within

BODY = b'{"a":1}'
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n" + BODY
CHUNKED = (
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\n3;x=y\r\n:1}\r\n0\r\n\r\n'
)


def reader(*parts):
    """Return a reader of what comes in *parts*, after which the server hangs up."""
    waiting = list(parts)
    return Reader(lambda: waiting.pop(0) if waiting else b"")


def pieces(data, cuts):
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in zip(at, at[1:], strict=False)]


@pytest.mark.parametrize("data", [PLAIN, CHUNKED], ids=["by its length", "in chunks"])
@given(cuts=st.lists(st.integers(0, 200), max_size=6))
def test_an_answer_may_come_in_any_pieces(data, cuts):
    """The network cuts where it likes."""
    found = reader(*pieces(data, cuts)).answer()
    assert (200, BODY) == (found.status, found.body)


def test_one_answer_after_the_other():
    """On one connection, each when it was asked for."""
    waiting = [PLAIN, CHUNKED, b"HTTP/1.1 204 No Content\r\n\r\n"]
    made = Reader(lambda: waiting.pop(0))
    assert [BODY, BODY, b""] == [made.answer().body for _ in range(3)]


def test_headers_are_known_by_their_names_in_lower_case():
    """And without the space around them."""
    head = b"HTTP/1.1 200\r\nX-Vault-Index: \t abc \r\ncontent-length: 0\r\n\r\n"
    assert b"abc" == reader(head).answer().headers[b"x-vault-index"]


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
BAD = {
    "nothing": b"",
    "another protocol": PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "no status": PLAIN.replace(b"200", b"2x0"),
    "a long status": PLAIN.replace(b"200", b"2000"),
    "one of several": PLAIN.replace(b"200", b"100"),
    "a cut head": PLAIN[:40],
    "a cut body": PLAIN[:-1],
    "more than was said": PLAIN + b"x",
    "a second answer": PLAIN + PLAIN,
    "no length": PLAIN.replace(b"Content-Length: 7\r\n", b""),
    "no number": PLAIN.replace(b": 7", b": +7"),
    "a negative number": PLAIN.replace(b": 7", b": -7"),
    "a large number": LONG % 2**31,
    "an endless number": PLAIN.replace(b": 7", b": " + b"7" * 5000),
    "two lengths": PLAIN.replace(b": 7", b": 7\r\nContent-Length: 7"),
    "length and chunks": CHUNKED.replace(b"chunked", b"chunked\r\nContent-Length: 7"),
    "another coding": CHUNKED.replace(b"chunked", b"gzip, chunked"),
    "compressed": PLAIN.replace(b"application/json", b"x\r\nContent-Encoding: gzip"),
    "a folded line": PLAIN.replace(b"application/json", b"x\r\n y"),
    "a name with a space": PLAIN.replace(b"Content-Type:", b"Content Type:"),
    "a space before the colon": PLAIN.replace(b"Content-Type:", b"Content-Type :"),
    "a line without a colon": PLAIN.replace(b"Content-Type:", b"Content-Type"),
    "a size that is none": CHUNKED.replace(b"\r\n4\r\n", b"\r\n0x4\r\n"),
    "a size with a sign": CHUNKED.replace(b"\r\n4\r\n", b"\r\n+4\r\n"),
    "no size": CHUNKED.replace(b"\r\n4\r\n", b"\r\n\r\n"),
    "a wrong size": CHUNKED.replace(b"\r\n4\r\n", b"\r\n5\r\n"),
    "a huge size": CHUNKED.replace(b"\r\n4\r\n", b"\r\nffffffff\r\n"),
    "no last chunk": CHUNKED[:-5],
    "trailers": CHUNKED[:-2] + b"X: y\r\n\r\n",
    "a long head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("what", BAD)
def test_it_is_no_answer(what):
    """Where it ends, or what it is, would be in doubt."""
    with pytest.raises(Unreadable):
        reader(BAD[what]).answer()


def test_a_body_that_never_ends_is_bounded():
    """In chunks, each of which is fine."""
    head = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    asked = []

    def receive():
        asked.append(1)
        return head.pop() if head else chunk

    with pytest.raises(Unreadable):
        Reader(receive).answer()
    assert len(asked) < 40


@settings(max_examples=500)
@given(data=st.binary(max_size=300), kept=st.integers(0, 120), cuts=st.lists(st.integers(0, 400)))
def test_whatever_comes_it_is_an_answer_or_the_one_error(data, kept, cuts):
    """Random bytes, alone or behind the beginning of an answer: nothing else is raised."""
    for start in (b"", PLAIN[:kept], CHUNKED[:kept]):
        try:
            found = reader(*pieces(start + data, cuts)).answer()
        except Unreadable:
            continue
        assert 200 <= found.status <= 999


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_json_is_read_as_the_library_reads_it(value):
    """Whatever it holds."""
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        try:
            data = text.encode()
        except UnicodeEncodeError:
            continue
        assert json.loads(data) == parsed(data)


@settings(max_examples=300)
@given(
    st.binary(max_size=60)
    | st.text('{}[]",:0123456789.eE-+ntfNI\\u \x00é', max_size=60).map(str.encode)
)
def test_json_or_the_one_error(data):
    """Whatever comes: what the library refuses is refused."""
    try:
        found = parsed(data)
    except Unreadable:
        return
    assert json.loads(data) == found


@pytest.mark.parametrize("data", [b"", b"{", b"{} x", b"[NaN]", b"[" * 100_000, b"1" * 5000])
def test_no_json(data):
    """Cut, followed by more, no number, too deep, too long."""
    with pytest.raises(Unreadable):
        parsed(data)


def test_within():
    """A path that is not there leads to nothing."""
    assert 1 == within({"a": {"b": 1}}, "a", "b")
    assert within({"a": [1]}, "a", "b") is None
    assert within(None, "a") is None


def test_a_file_holds_one_line(tmp_path):
    """Without what is around it; nothing else is taken for a token."""
    path = tmp_path / "token"
    path.write_bytes(b" s.abc\n")
    assert b"s.abc" == of_file(str(path).encode())
    for bad in (b"", b"\n", b"a\nb", b"a\xff", b"x" * 70_000):
        path.write_bytes(bad)
        with pytest.raises(Unreadable):
            of_file(str(path).encode())
    for other in (tmp_path, tmp_path / "absent", tmp_path / "a\0b"):
        with pytest.raises(Unreadable):
            of_file(str(other).encode())


@pytest.mark.parametrize("text", [b"a\r\nX: y", b"a\0", b"caf\xc3\xa9", b"\x7f"])
def test_what_no_header_carries_is_not_sent(text, monkeypatch):
    """A token with a line end would be a request of its own."""

    class Raw:
        sent = b""

        def settimeout(self, seconds):
            assert 0 < seconds <= 2

        def sendall(self, data):
            self.sent += data

    monkeypatch.setattr(Server, "_connected", lambda _: Raw())
    made = Server({b"authority": b"x"})
    with pytest.raises(Unreadable):
        made.send(b"GET", b"/", [(b"X-Vault-Token", text)], b"")
    assert made._raw.sent == b""


def test_no_server_is_the_one_error():
    """Nobody listens on the port that the system gave and took back."""
    rows = {b"tls": b"no", b"host": b"127.0.0.1", b"port": b"0", b"authority": b"x"}
    with pytest.raises(Unreadable):
        Server(rows)
