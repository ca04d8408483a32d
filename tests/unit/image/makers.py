"""Small archives, layouts and trees for tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wherry.core.digest import Checksum
from wherry.store.format.objects import DirMeta, Mode
from wherry.store.repository import Repository
from wherry.store.tree.walk import walk


def file(name: str, content: bytes | str = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    data = content.encode() if isinstance(content, str) else content
    return _member(name, tarfile.REGTYPE, {"size": len(data), "mode": 0o644} | fields), data


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return _member(name, tarfile.DIRTYPE, {"mode": 0o755} | fields), b""


def symlink(name: str, target: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return _member(name, tarfile.SYMTYPE, {"linkname": target, "mode": 0o777} | fields), b""


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return _member(name, tarfile.LNKTYPE, {"linkname": target}), b""


def device(name: str, kind: bytes = tarfile.CHRTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return _member(name, kind, {"devmajor": 1, "devminor": 3}), b""


def xattrs(**values: str) -> dict[str, str]:
    """Returns pax headers; ``__`` stands for a dot."""
    return {f"SCHILY.xattr.{name.replace('__', '.')}": value for name, value in values.items()}


def _member(name: str, kind: bytes, fields: dict[str, Any]) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def make_tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


class Layout:
    """An OCI image layout on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.manifests: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str = "application/octet-stream", **more: Any) -> dict[str, Any]:
        digest = sha256(data)
        (self.path / "blobs/sha256" / digest[7:]).write_bytes(data)
        return {"mediaType": media_type, "digest": digest, "size": len(data), **more}

    def image(
        self, layers: Sequence[bytes], *, config: dict[str, Any] | None = None, compress: bool = True, **platform: str
    ) -> dict[str, Any]:
        """Adds an image's blobs and returns the descriptor of its manifest."""
        document = {
            "architecture": platform.get("architecture", "amd64"),
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(json.dumps(document).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [
                self.blob(gzip.compress(layer, mtime=0) if compress else layer, f"{_LAYER_TYPE}{'+gzip' * compress}")
                for layer in layers
            ],
        }
        extra = {"platform": {"os": "linux", **platform}} if platform else {}
        return self.blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json", **extra)

    def add(self, descriptor: dict[str, Any], tag: str | None = None) -> None:
        if tag is not None:
            descriptor = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}}
        self.manifests.append(descriptor)
        index = {"schemaVersion": 2, "manifests": self.manifests}
        (self.path / "index.json").write_text(json.dumps(index))

    def tar(self, path: Path) -> Path:
        with tarfile.open(path, "w") as archive:
            archive.add(self.path, arcname=".")
        return path


def make_repo(path: Path) -> Repository:
    return Repository.init(path, Mode.BARE_USER)


def show(repo: Repository, commit: Checksum) -> dict[str, str]:
    """Returns a tree in words: ``755 0:0 dir``, ``644 0:0 'content'``, ``-> target``."""
    found: dict[str, str] = {}
    for path, entry in walk(repo, commit):
        if isinstance(entry, DirMeta):
            found[path] = f"{stat.S_IMODE(entry.mode):o} {entry.uid}:{entry.gid} dir{_attributes(entry.xattrs)}"
            continue
        checksum, header = entry
        if header.is_symlink:
            found[path] = f"-> {header.symlink_target}"
            continue
        _, content = repo.load_file(checksum)
        assert content is not None
        with content:
            data = content.read()
        text = repr(data.decode()) if len(data) < 100 else f"{len(data)} bytes"
        found[path] = f"{stat.S_IMODE(header.mode):o} {header.uid}:{header.gid} {text}{_attributes(header.xattrs)}"
    return found


def _attributes(xattrs: tuple[tuple[bytes, bytes], ...]) -> str:
    return "".join(f" {name.decode()}={value!r}" for name, value in xattrs)
