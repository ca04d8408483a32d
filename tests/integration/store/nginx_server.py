"""A real nginx that serves a repository: HTTP/1.1, and HTTP/2 with TLS, with and without client certificates."""

from __future__ import annotations

import datetime
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_CONFIG = """
user root;
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 128; }}
http {{
  log_format plain '$server_protocol $status $request_uri $http_range';
  access_log {folder}/access.log plain;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  default_type application/octet-stream;
  root {root};
  ssl_certificate {folder}/server.pem;
  ssl_certificate_key {folder}/server.key;
  server {{ listen 127.0.0.1:{plain}; }}
  server {{ listen 127.0.0.1:{tls} ssl http2; }}
  server {{ listen 127.0.0.1:{mutual} ssl http2; ssl_client_certificate {folder}/ca.pem; ssl_verify_client on; }}
}}
"""
_START_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Nginx:
    folder: Path
    plain: str
    tls: str
    mutual: str

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def requests(self) -> list[tuple[str, int, str, str]]:
        """Protocol, status, path and range of every request so far."""
        found = []
        for line in (self.folder / "access.log").read_text().splitlines():
            protocol, status, path, ranged = line.split(" ", 3)
            found.append((protocol, int(status), path, ranged))
        return found

    def forget(self) -> None:
        """Empties the log; nginx appends to it."""
        (self.folder / "access.log").write_text("")


@contextmanager
def nginx(root: Path, folder: Path) -> Iterator[Nginx]:
    """Runs nginx for as long as the block runs.

    Args:
        root: what it serves.
        folder: for its files, and the certificates.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert program, "install nginx-light"
    folder.mkdir()
    _certificates(folder)
    ports = [_free_port() for _ in range(3)]
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, root=root, plain=ports[0], tls=ports[1], mutual=ports[2]))
    process = subprocess.Popen([program, "-p", folder, "-e", folder / "error.log", "-c", config])
    try:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", ports[0]), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, (folder / "error.log").read_text()
                assert process.poll() is None, (folder / "error.log").read_text()
                time.sleep(0.02)
        yield Nginx(
            folder=folder,
            plain=f"http://127.0.0.1:{ports[0]}",
            tls=f"https://localhost:{ports[1]}",
            mutual=f"https://localhost:{ports[2]}",
        )
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _certificates(folder: Path) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("Test authority", authority_key, None, None)
    _write(folder / "ca.pem", authority, None, None)
    for name in ("server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        _write(folder / f"{name}.pem", _certificate(name, key, authority, authority_key), folder / f"{name}.key", key)


def _write(
    path: Path, certificate: x509.Certificate, key_path: Path | None, key: ec.EllipticCurvePrivateKey | None
) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    if key_path is not None and key is not None:
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key_path.write_bytes(pem)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey | None,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
    )
    return builder.sign(issuer_key or key, hashes.SHA256())
