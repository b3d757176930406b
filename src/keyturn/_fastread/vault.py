"""
Whether a document in Vault or OpenBao still holds what is sealed, asked in one request.

The document is read as every application reads it, and compared field by field with what
the bundle holds: equal values are true whoever wrote what meanwhile, and nothing needs to
be remembered of the document that could go stale itself. A login by AppRole, Kubernetes
or JWT takes a request before it, and one after it that ends the token: three in all, on
one connection. No token is kept anywhere.
"""

import os

from keyturn._fastread.wire import Server, Unreadable, of_file, parsed, within

_SUCCESS = 200
_CODED = "keyturn.base64"  # as `keyturn.stores._vault_place` writes it


def holds(rows: "list[list[bytes]]", values: "dict[bytes, bytes]") -> bool:
    """
    Tell whether the live document holds *values*, by `SECRET.FIELD`, and nothing more of ours.

    Args:
        rows: What the bundle says under `recheck`.

    Raises:
        Unreadable: There is no answer to rely on.
    """
    said = {row[0]: b" ".join(row[1:]) for row in rows}
    fields = {row[1]: row[2] for row in rows if row[0] == b"field"}
    absent = [row[1] for row in rows if row[0] == b"absent"]
    at_hand = None if b"login" in said else _token(said)
    server = Server(said)
    try:
        token = _logged_in(server, said) if at_hand is None else at_hand
        try:
            document = _document(server, said, token)
        finally:
            if at_hand is None:
                _end(server, said, token)
    finally:
        server.close()
    return _has(document, {key: values[name] for key, name in fields.items()}, absent)


def _token(said: "dict[bytes, bytes]") -> bytes:
    if b"token_file" in said:
        return of_file(said[b"token_file"])
    found = os.environ.get(said[b"token_variable"].decode("ascii"))
    if found:
        return os.fsencode(found)
    usual = os.path.expanduser("~/.vault-token")  # noqa: PTH111 - pathlib is large
    return of_file(os.fsencode(usual))


def _logged_in(server: Server, said: "dict[bytes, bytes]") -> bytes:
    from keyturn._fastaudit import quoted

    if b"jwt_file" in said:
        members = {"jwt": of_file(said[b"jwt_file"])}
        if b"role" in said:
            members["role"] = said[b"role"]
    else:
        secret_id = of_file(said[b"secret_id_file"])
        members = {"role_id": said[b"role_id"], "secret_id": secret_id}
    body = ",".join([f"{quoted(name)}:{quoted(text.decode())}" for name, text in members.items()])
    headers = [*_headers(said), (b"Content-Type", b"application/json")]
    answer = server.send(b"POST", said[b"login"], headers, b"{%b}" % body.encode("ascii"))
    token = within(parsed(answer.body), "auth", "client_token")
    if answer.status != _SUCCESS or not isinstance(token, str) or not token:
        raise Unreadable
    return token.encode()


def _document(server: Server, said: "dict[bytes, bytes]", token: bytes) -> object:
    headers = [*_headers(said), (b"X-Vault-Token", token)]
    index = said.get(b"index")
    if index is not None:
        # One that no copy has reached yet: so the active node answers.
        headers += [(b"X-Vault-Index", index), (b"X-Vault-Inconsistent", b"forward-active-node")]
    answer = server.send(b"GET", said[b"path"], headers, b"")
    if answer.status != _SUCCESS or (index is None and b"x-vault-index" in answer.headers):
        raise Unreadable  # or it may come from a copy that is behind
    return within(parsed(answer.body), "data", "data")


def _end(server: Server, said: "dict[bytes, bytes]", token: bytes) -> None:
    """End the token of a login; one that cannot be ended ends by its own time."""
    headers = [*_headers(said), (b"X-Vault-Token", token)]
    try:
        server.send(b"POST", said[b"end"], headers, b"")
    except Unreadable:
        return


def _headers(said: "dict[bytes, bytes]") -> "list[tuple[bytes, bytes]]":
    headers = [(b"X-Vault-Request", b"true")]
    if b"namespace" in said:
        headers.append((b"X-Vault-Namespace", said[b"namespace"]))
    return headers


def _has(document: object, wanted: "dict[bytes, bytes]", absent: "list[bytes]") -> bool:
    if not isinstance(document, dict):
        return False
    coded = set(str(document.get(_CODED, "")).split())
    for name in absent:
        if name.decode("ascii") in document:
            return False
    for name, value in wanted.items():
        key = name.decode("ascii")
        found = document.get(key)
        # What somebody put there in another form is for the slow path to read.
        if not isinstance(found, str) or _bytes(found, is_coded=key in coded) != value:
            return False
    return True


def _bytes(text: str, *, is_coded: bool) -> bytes:
    if is_coded:
        from binascii import a2b_base64

        return a2b_base64(text, strict_mode=True)
    return text.encode("utf-8", "surrogatepass")
