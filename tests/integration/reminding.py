"""Real receivers of notices on loopback: a mail server and an HTTP server; and a CA of their own."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import socket
import ssl
import threading
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"
USER = "clipper-mailer"
PASSWORD = "canary-mail-Kq7Wm2Xv9Tz4"  # noqa: S105 - made up for these tests


@dataclass
class Mails:
    """What a mail server took."""

    port: int = 0
    taken: list = field(default_factory=list)
    logins: list = field(default_factory=list)

    def to(self, recipient):
        """Return the mails that went to *recipient*, oldest first."""
        return [mail for mail in self.taken if recipient in str(mail["To"])]


class _Handler:
    def __init__(self, mails, answers) -> None:
        self.mails = mails
        self.answers = answers

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = self.answers.get(address)
        if answer is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if "DATA" in self.answers:
            return self.answers["DATA"]
        mail = message_from_bytes(envelope.content, policy=policy.default)
        mail.is_encrypted = session.ssl is not None
        self.mails.taken.append(mail)
        return "250 OK"


@contextlib.contextmanager
def mail_server(*, answers=None, tls=None, first=False, login=False):
    """
    Run a mail server and yield its `Mails`.

    Args:
        answers: What it says to a recipient, or to `DATA`, instead of yes.
        tls: Its context; None for a server without TLS.
        first: TLS comes before anything else; otherwise by STARTTLS.
        login: It wants `USER` and `PASSWORD`.
    """
    mails = Mails()

    def authenticate(server, session, envelope, mechanism, data):
        mails.logins.append((data.login.decode(), session.ssl is not None))
        known = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=known, handled=False)

    controller = Controller(
        _Handler(mails, answers or {}),
        hostname=HOST,
        port=0,
        ssl_context=tls if first else None,
        authenticator=authenticate if login else None,
        auth_required=login,
        auth_require_tls=not login,
        **({"tls_context": tls} if tls is not None and not first else {}),
    )

    def probe():
        # Its own one would connect to port 0.
        mails.port = controller.server.sockets[0].getsockname()[1]
        socket.create_connection((HOST, mails.port)).close()

    controller._trigger_server = probe
    controller.start()
    try:
        yield mails
    finally:
        controller.stop()


@contextlib.contextmanager
def web_server(*, status=200):
    """Run an HTTP server that answers *status*; yield its port and what it was sent."""
    taken = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def authority(folder):
    """Make a CA and a certificate of *HOST* by it; return the CA's file and the server's context."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = _certificate("test CA", ca_key, "test CA", ca_key, is_ca=True)
    own = _certificate("mail", key, "test CA", ca_key, is_ca=False)
    ca_file, own_file = folder / "ca.pem", folder / "server.pem"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    own_file.write_bytes(
        own.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own_file)
    return ca_file, context


def _certificate(name, key, issuer, issuer_key, *, is_ca):
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())
