"""Referrers of a registry that has the API for them, and of one that lies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from wherry.core.digest import Digest
from wherry.core.errors import IntegrityError, InvalidInput, NotFound
from wherry.image.mediatypes import MANIFEST_TYPE
from wherry.image.referrers import Attachment, Descriptor, attachment
from wherry.image.registry.attaching import fetch, list_referrers
from wherry.image.registry.client import RegistryClient
from wherry.image.registry.hosts import Hosts

SUBJECT = Descriptor(media_type=MANIFEST_TYPE, digest=Digest("sha256:" + "ab" * 32), size=7)
SPDX = "application/spdx+json"
Pages = dict[str, bytes]


class _Handler(BaseHTTPRequestHandler):
    pages: Pages

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return

    def do_GET(self) -> None:
        body = self.pages.get(self.path)
        self.send_response(404 if body is None else 200)
        following = f"{self.path}?next"
        if following in self.pages:
            self.send_header("Link", f'<{following}>; rel="next"')
        if "/manifests/" in self.path:
            self.send_header("Content-Type", MANIFEST_TYPE)
        self.send_header("Content-Length", str(len(body or b"{}")))
        self.end_headers()
        self.wfile.write(b"{}" if body is None else body)


@pytest.fixture
def pages() -> Pages:
    return {"/v2/": b"{}"}


@pytest.fixture
def client(pages: Pages) -> Iterator[RegistryClient]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"pages": pages}))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    found = RegistryClient(Hosts().find(f"127.0.0.1:{server.server_address[1]}"), timeout_s=10)
    yield found
    found.close()
    server.shutdown()
    thread.join()
    server.server_close()


def index_of(*made: Attachment) -> bytes:
    entries: list[dict[str, Any]] = [item.descriptor.document() for item in made]
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def serve(pages: Pages, made: Attachment) -> None:
    pages[f"/v2/app/manifests/{made.descriptor.digest}"] = made.manifest
    for digest, data in made.blobs.items():
        pages[f"/v2/app/blobs/{digest}"] = data


def test_the_api_with_pages(client: RegistryClient, pages: Pages) -> None:
    one = attachment(SUBJECT, b"one", media_type=SPDX)
    two = attachment(SUBJECT, b"two", media_type="text/plain")
    path = f"/v2/app/referrers/{SUBJECT.digest}"
    pages |= {path: index_of(one), f"{path}?next": index_of(two)}
    assert list_referrers(client, "app", SUBJECT.digest) == (one.descriptor, two.descriptor)
    assert list_referrers(client, "app", SUBJECT.digest, artifact_type=SPDX) == (one.descriptor,)
    serve(pages, one)
    assert fetch(client, "app", SUBJECT.digest, one.descriptor.digest) == (b"one", SPDX)


def test_neither_api_nor_tag(client: RegistryClient) -> None:
    assert list_referrers(client, "app", SUBJECT.digest) == ()


def test_a_registry_that_lies(client: RegistryClient, pages: Pages) -> None:
    made = attachment(SUBJECT, b"one", media_type=SPDX)
    pages[f"/v2/app/referrers/{SUBJECT.digest}"] = b'{"manifests": [{"digest": "x"}]}'
    with pytest.raises(InvalidInput, match="a descriptor without"):
        list_referrers(client, "app", SUBJECT.digest)
    with pytest.raises(NotFound):
        fetch(client, "app", SUBJECT.digest, made.descriptor.digest)
    serve(pages, made)
    with pytest.raises(InvalidInput, match="not attached to"):
        fetch(client, "app", Digest("sha256:" + "cd" * 32), made.descriptor.digest)
    digest = next(digest for digest, data in made.blobs.items() if data == b"one")
    pages[f"/v2/app/blobs/{digest}"] = b"two"
    with pytest.raises(IntegrityError, match="has not the digest"):
        fetch(client, "app", SUBJECT.digest, made.descriptor.digest)
    pages[f"/v2/app/manifests/{made.descriptor.digest}"] = made.manifest + b" "
    with pytest.raises(IntegrityError):
        fetch(client, "app", SUBJECT.digest, made.descriptor.digest)
