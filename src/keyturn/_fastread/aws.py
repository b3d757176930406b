"""
Whether secrets in AWS Secrets Manager are still at the sealed versions; no SDK.

`BatchGetSecretValue` is the only call that tells of twenty secrets at once and is up to
date (`ListSecrets` may be minutes behind), so there is one request for each twenty, on one
connection. What is compared is the label that Keyturn puts on a version when it writes
it; a value that somebody else put has none. The values that come with it are dropped.

Requests are signed here, with keys that stand in the environment or in a profile of the
credentials file. Who gets theirs in another way (a role, single sign-on, a program, the
machine's own) takes the slow path.
"""

import os
import time

from keyturn._fastaudit import quoted, sha256
from keyturn._fastread.wire import Server, Unreadable, parsed, within

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SUCCESS = 200
_AT_ONCE = 20
_BLOCK_BYTES = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_NOTHING_ID = "kt1-00000000-nothing-is-current-yet"  # as `keyturn.stores._aws_record` writes it
_ABSENT = "ResourceNotFoundException"
_TYPE = b"application/x-amz-json-1.1"
_TARGET = b"secretsmanager.BatchGetSecretValue"
_FILE_BYTES = 256 * 1024
# Through a proxy, or to another door of AWS: the SDK knows how.
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_ELSEWHERE = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_WEB_IDENTITY_TOKEN_FILE")
_OTHER_WAYS = frozenset(
    {
        "credential_process",
        "credential_source",
        "login_session",
        "role_arn",
        "source_profile",
        "use_dualstack_endpoint",
        "use_fips_endpoint",
        "web_identity_token_file",
    }
)


def are_current(rows: "list[list[bytes]]") -> bool:
    """
    Tell whether each secret is at the version that was sealed.

    Args:
        rows: What the bundle says under `recheck`.

    Raises:
        Unreadable: There is no answer to rely on.
    """
    said = {row[0]: b" ".join(row[1:]) for row in rows}
    wanted = {row[1].decode("ascii"): row[2:] for row in rows if row[0] == b"secret"}
    names = list(wanted)
    keys = _keys(said)
    server = Server(said)
    try:
        for start in range(0, len(names), _AT_ONCE):
            asked = names[start : start + _AT_ONCE]
            if not _are_at(_ask(server, said, keys, asked), {name: wanted[name] for name in asked}):
                return False
    finally:
        server.close()
    return True


def _ask(
    server: Server, said: "dict[bytes, bytes]", keys: "tuple[bytes, bytes, bytes]", names: list[str]
) -> object:
    listed = ",".join([quoted(name) for name in names])
    body = f'{{"SecretIdList":[{listed}]}}'.encode("ascii")
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()).encode("ascii")
    headers = signed(said[b"authority"], said[b"region"], keys, now, body)
    answer = server.send(b"POST", b"/", headers, body)
    if answer.status != _SUCCESS:
        raise Unreadable
    return parsed(answer.body)


def _are_at(found: object, wanted: "dict[str, list[bytes]]") -> bool:
    values, errors = within(found, "SecretValues"), within(found, "Errors")
    if within(found, "NextToken") or not isinstance(values, list):
        return False
    left = dict(wanted)
    for entry in values:
        row = left.pop(str(within(entry, "Name")), None)
        if row is None or not _is_at(entry, row):
            return False
    for entry in errors if isinstance(errors, list) else ():
        row = left.pop(str(within(entry, "SecretId")), None)
        if row != [b"-"] or within(entry, "ErrorCode") != _ABSENT:
            return False
    # Of one that is not there nothing need be said.
    return all(row == [b"-"] for row in left.values())


def _is_at(entry: object, row: "list[bytes]") -> bool:
    id_, labels = within(entry, "VersionId"), within(entry, "VersionStages")
    if not isinstance(id_, str) or not isinstance(labels, list) or "AWSCURRENT" not in labels:
        return False
    if row == [b"-"]:
        return id_ == _NOTHING_ID
    number, origin, moment, fields = [part.decode("ascii") for part in row]
    if not id_.startswith(f"kt1-{int(number):08d}-{origin}-"):
        return False
    owner = sha256(id_.encode()).hexdigest()[:8]
    marks = [f"keyturn/1/{number}/{origin}/{form}/{moment}/{owner}/{fields}" for form in "sbj"]
    return any(mark in labels for mark in marks)


# --- signature 4 ----------------------------------------------------------------------------


def signed(
    host: bytes, region: bytes, keys: "tuple[bytes, bytes, bytes]", now: bytes, body: bytes
) -> "list[tuple[bytes, bytes]]":
    """
    Return the headers of a signed POST of *body* to `/`, beside `Host`.

    Args:
        keys: Id, secret, and the session's token, which may be empty.
        now: Such as `20261124T120000Z`.
    """
    id_, secret, session = keys
    headers = [(b"content-type", _TYPE), (b"x-amz-date", now)]
    if session:
        headers.append((b"x-amz-security-token", session))
    headers.append((b"x-amz-target", _TARGET))
    covered = sorted([*headers, (b"host", host)])
    names = b";".join([name for name, _ in covered])
    lines = b"".join([name + b":" + text + b"\n" for name, text in covered])
    request = b"POST\n/\n\n%b\n%b\n%b" % (lines, names, _hex(body))
    scope = b"%b/%b/secretsmanager/aws4_request" % (now[:8], region)
    text = b"AWS4-HMAC-SHA256\n%b\n%b\n%b" % (now, scope, _hex(request))
    key = b"AWS4" + secret
    for part in (now[:8], region, b"secretsmanager", b"aws4_request"):
        key = keyed(key, part)
    signature = keyed(key, text).hex().encode("ascii")
    said = b"Credential=%b/%b, SignedHeaders=%b, Signature=%b" % (id_, scope, names, signature)
    return [*headers, (b"authorization", b"AWS4-HMAC-SHA256 " + said)]


def keyed(key: bytes, message: bytes) -> bytes:
    """Return HMAC-SHA-256 of *message*; `hmac` imports more than the rest of this path."""
    if len(key) > _BLOCK_BYTES:
        key = sha256(key).digest()
    key = key.ljust(_BLOCK_BYTES, b"\0")
    inner = sha256(key.translate(_INNER) + message).digest()
    return sha256(key.translate(_OUTER) + inner).digest()


def _hex(data: bytes) -> bytes:
    return sha256(data).hexdigest().encode("ascii")


# --- credentials ----------------------------------------------------------------------------


def _keys(said: "dict[bytes, bytes]") -> "tuple[bytes, bytes, bytes]":
    """
    Return the access key's id and secret, and the session's token, as the SDK would find them.

    Raises:
        Unreadable: They come in a way that is the SDK's alone.
    """
    environ = os.environ
    if any(name.lower() in _PROXIES and text for name, text in environ.items()):
        raise Unreadable
    if any(environ.get(name) for name in _ELSEWHERE):
        raise Unreadable
    profile = said[b"profile"].decode("ascii") if b"profile" in said else None
    if profile is None and environ.get("AWS_ACCESS_KEY_ID"):
        session = environ.get("AWS_SESSION_TOKEN") or environ.get("AWS_SECURITY_TOKEN") or ""
        return _complete(
            environ["AWS_ACCESS_KEY_ID"], environ.get("AWS_SECRET_ACCESS_KEY", ""), session
        )
    profile = profile or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    profile = profile or "default"
    settings = _section("AWS_CONFIG_FILE", "~/.aws/config", lambda title: _means(title, profile))
    found = _section(
        "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", lambda title: title == profile
    )
    if any(name.startswith("sso_") or name in _OTHER_WAYS for name in [*settings, *found]):
        raise Unreadable
    session = found.get("aws_session_token") or found.get("aws_security_token") or ""
    return _complete(
        found.get("aws_access_key_id", ""), found.get("aws_secret_access_key", ""), session
    )


def _complete(id_: str, secret: str, session: str) -> "tuple[bytes, bytes, bytes]":
    if not id_ or not secret:
        raise Unreadable
    return os.fsencode(id_), os.fsencode(secret), os.fsencode(session)


def _means(title: str, profile: str) -> bool:
    """Tell whether a section of the settings is that of *profile*, however it is written."""
    words = title.replace('"', " ").replace("'", " ").split()
    return " ".join(words) in {profile, f"profile {profile}"}


def _section(variable: str, usual: str, is_meant: "Callable[[str], bool]") -> dict[str, str]:
    """Return the settings below each title of a file that is meant; none where it is absent."""
    path = os.path.expanduser(os.environ.get(variable) or usual)  # noqa: PTH111 - pathlib is large
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError:
        raise Unreadable from None
    try:
        data = os.read(descriptor, _FILE_BYTES)
    except OSError:
        raise Unreadable from None
    finally:
        os.close(descriptor)
    if len(data) == _FILE_BYTES:
        raise Unreadable
    found: dict[str, str] = {}
    for name, text in _settings(data, is_meant):
        if name in found:
            raise Unreadable
        found[name] = text
    return found


def _settings(data: bytes, is_meant: "Callable[[str], bool]") -> "Iterator[tuple[str, str]]":
    inside = False
    for line in data.decode("utf-8", "replace").splitlines():
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        if line.startswith("["):
            title, end, rest = line[1:].partition("]")
            if not end or rest.strip() or title == "DEFAULT":  # which speaks for all of them
                raise Unreadable
            inside = is_meant(title)
        elif inside:
            name, equals, text = line.partition("=")
            # A line that goes on, or another way to write one.
            if line[0].isspace() or not equals or ":" in name:
                raise Unreadable
            yield name.strip().lower(), text.strip()
