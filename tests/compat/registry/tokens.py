"""A token server for docker-registry: JSON Web Tokens, signed with a key that the registry trusts.

Source: distribution, "Token Authentication Specification" and "Token Authentication Implementation".
"""

from __future__ import annotations

import base64
import datetime
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

USER, PASSWORD, REFRESH = "robot", "s3cret", "a-refresh-token"
ISSUER, SERVICE = "tests", "docker-registry"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenServer:
    """Lets everybody pull from ``public/``, and the one user do all."""

    def __init__(self, folder: Path, *, lifetime_s: int = 300) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(self.key, hashes.SHA256())
        )
        self.bundle = folder / "tokens.pem"
        self.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.chain = [base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
        self.lifetime_s = lifetime_s
        self.asked: list[tuple[str, ...]] = []
        handler = type("Handler", (_Handler,), {"tokens": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def settings(self) -> str:
        """The registry's ``auth`` section."""
        return (
            f"auth: {{token: {{realm: '{self.realm}', service: {SERVICE}, issuer: {ISSUER}, "
            f"rootcertbundle: {self.bundle}}}}}\n"
        )

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def token(self, user: str, scopes: list[str]) -> str:
        """Returns a token for as much of some scopes as somebody may."""
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = [
                action for action in actions.split(",") if user or (action == "pull" and name.startswith("public/"))
            ]
            access.append({"type": kind, "name": name, "actions": allowed})
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": user, "aud": SERVICE, "exp": now + self.lifetime_s, "nbf": now - 5, "iat": now,
            "jti": os.urandom(8).hex(), "access": access,
        }  # fmt: skip
        head = {"typ": "JWT", "alg": "RS256", "x5c": self.chain}
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encoded(signature)}"


class _Handler(BaseHTTPRequestHandler):
    tokens: TokenServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        given = self.headers.get("Authorization", "")
        user = ""
        if given:
            if base64.b64decode(given.removeprefix("Basic ")).decode() != f"{USER}:{PASSWORD}":
                self._send(401, {"errors": [{"code": "UNAUTHORIZED"}]})
                return
            user = USER
        self._give(user, query.get("scope", []))

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form.get("grant_type") != ["refresh_token"] or form.get("refresh_token") != [REFRESH]:
            self._send(401, {})
            return
        self._give(USER, form.get("scope", [""])[0].split(), "access_token")

    def _give(self, user: str, scopes: list[str], key: str = "token") -> None:
        self.tokens.asked.append(tuple(scopes))
        self._send(200, {key: self.tokens.token(user, scopes), "expires_in": self.tokens.lifetime_s})

    def _send(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
