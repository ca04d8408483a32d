"""A client of the registry endpoint that needs no server, and an image for it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from typing import Any

from tests.unit.image.makers import Layout, directory, file, make_tar

from wherry.image.importing import import_image
from wherry.image.serving.messages import Answer, Request, Stream
from wherry.image.serving.registry import Registry
from wherry.store.repository import Repository

LAYER = gzip.compress(make_tar(directory("./"), file("etc/motd", "hello")), mtime=0)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
TOKEN = "a-token-of-many-letters"


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Client:
    """Asks a registry as a client would, and reads what it answers."""

    def __init__(self, registry: Registry, **headers: str) -> None:
        self.registry, self.headers = registry, headers
        self.body = b""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        target, _, query = path.partition("?")
        fields = dict(item.split("=", 1) for item in query.split("&") if item)
        answer = self.registry.answer(
            Request(
                method=method,
                path=target,
                query=fields,
                headers={**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}},
                body=io.BytesIO(body),
                address="192.0.2.1",
                origin="http://registry.example:5000",
            )
        )
        if isinstance(answer.body, Stream):
            with answer.body.open() as opened:
                self.body = opened.read(answer.body.size) if answer.body.size else b""
                while len(self.body) < answer.body.size:
                    self.body += opened.read(answer.body.size - len(self.body))
        else:
            self.body = answer.body
        return answer

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> str:
        found: str = self.json()["errors"][0]["code"]
        return found

    def push_blob(self, name: str, data: bytes) -> str:
        begun = self.ask("POST", f"/v2/{name}/blobs/uploads/")
        assert begun.status == 202
        done = self.ask("PUT", f"{begun.headers['Location']}?digest={sha(data)}", data)
        assert done.status == 201, self.body
        assert done.headers["Location"] == f"/v2/{name}/blobs/{sha(data)}"
        return sha(data)

    def push_image(self, name: str, reference: str, layer: bytes = LAYER, **more: Any) -> bytes:
        config = {
            "architecture": more.pop("architecture", "amd64"),
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [sha(gzip.decompress(layer))]},
        }
        raw_config = json.dumps(config).encode()
        for data in (raw_config, layer):
            self.push_blob(name, data)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": sha(raw_config), "size": len(raw_config)},
            "layers": [{"mediaType": GZIP, "digest": sha(layer), "size": len(layer)}],
            **more,
        }
        raw = json.dumps(manifest, indent=1).encode()
        done = self.ask("PUT", f"/v2/{name}/manifests/{reference or sha(raw)}", raw, content_type=MANIFEST)
        assert done.status == 201, self.body
        assert done.headers["Docker-Content-Digest"] == sha(raw)
        return raw

    def push_artifact(self, name: str, reference: str, subject: bytes | None = None, **more: Any) -> bytes:
        blob = b"{}"
        self.push_blob(name, blob)
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example.sbom",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha(blob), "size": 2},
            "layers": [{"mediaType": "application/json", "digest": sha(blob), "size": 2}],
            **more,
        }
        if subject is not None:
            manifest["subject"] = {"mediaType": MANIFEST, "digest": sha(subject), "size": len(subject)}
        raw = json.dumps(manifest).encode()
        done = self.ask("PUT", f"/v2/{name}/manifests/{reference or sha(raw)}", raw, content_type=MANIFEST)
        assert done.status == 201, self.body
        assert done.headers.get("OCI-Subject") == (sha(subject) if subject is not None else None)
        return raw


def imported(repo: Repository, name: str, content: str = "hello", *, keep: bool = False) -> str:
    path = repo.path.parent / f"layout-{content}-{keep}"
    if not path.exists():
        made = Layout(path)
        made.add(made.image([make_tar(directory("./"), file("etc/motd", content))]))
    return str(import_image(repo, str(path), name=name, keep_layers=keep).digest)
