"""Ten versions of one image, as a team that rebuilds every week has them, in OCI layouts.

An image is two layers: a Debian tree with a package manager's worth of files, rebuilt for each version (a few more
packages come from the suite with security fixes each time, and so a few hundred files are others), and the team's own
files over it (most stay, some change). Every layer of every version therefore has a digest of its own, though nine of
ten files are those of the version before. That is what `docker build --pull --no-cache` makes of a Dockerfile that
begins with ``apt-get upgrade``.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import shutil
import tarfile
from pathlib import Path

from wherry.core.lock import file_lock
from wherry.core.proc import run

COUNT = 10
CACHE = Path(__file__).parents[2] / "build/cache/image"
PACKAGES = "python3,ca-certificates,curl,openssl,git,perl"
EPOCH = "1767225600"
_ONLY_MAIN = '--setup-hook=sed -i "/security/d;/updates/d" "$1"/etc/apt/sources.list'
_APP_FILES = 400
_APP_FILE_BYTES = 40_000
_CHANGED_SHARE = 10
"""One of so many of the team's files is another in each version."""


def layouts() -> Path:
    """Returns the OCI layout with tags ``v1`` to ``v10``; made once, which takes some minutes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with file_lock(CACHE / ".lock"):
        done = CACHE / "versions"
        if done.is_dir():
            return done
        old, new = _tree("old", _ONLY_MAIN), _tree("new")
        making = CACHE / ".versions"
        shutil.rmtree(making, ignore_errors=True)
        (making / "blobs/sha256").mkdir(parents=True)
        (making / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        manifests = []
        for number in range(1, COUNT + 1):
            print(f"==> making version {number} of {COUNT}", flush=True)
            manifests.append(_image(making, old, new, number))
        index = {"schemaVersion": 2, "manifests": manifests}
        (making / "index.json").write_text(json.dumps(index))
        os.rename(making, done)
        return done


def tree(number: int, into: Path) -> None:
    """Lays a version's whole tree out in a folder, as root."""
    layout = layouts()
    index = json.loads((layout / "index.json").read_bytes())
    manifest = json.loads(_blob(layout, index["manifests"][number - 1]).read_bytes())
    into.mkdir(parents=True)
    for layer in manifest["layers"]:
        run(["tar", "-C", str(into), "-xpzf", str(_blob(layout, layer)), "--numeric-owner", "--xattrs"])


def _blob(layout: Path, descriptor: dict[str, str]) -> Path:
    return layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")


def _tree(name: str, *options: str) -> Path:
    """Makes a tar of a Debian tree."""
    tar = CACHE / f"{name}.tar"
    if not tar.is_file():
        print(f"==> making a Debian tree, {name} (mmdebstrap)", flush=True)
        environment = {"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": EPOCH}
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", *options]
        making = CACHE / f".{name}.tar"
        making.unlink(missing_ok=True)
        run([*command, "bookworm", str(making)], env=environment)
        os.rename(making, tar)
    return tar


def _image(layout: Path, old: Path, new: Path, number: int) -> dict[str, object]:
    layers = [_debian(old, new, number), _app(number)]
    descriptors = [_write(layout, gzip.compress(layer, 6, mtime=0), "layer.v1.tar+gzip") for layer in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": f"2026-01-{number:02}T00:00:00Z",
        "config": {"Cmd": ["true"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers],
        },
        "history": [{"created_by": "Debian"}, {"created_by": "the app"}],  # podman builds on nothing without it
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _write(layout, json.dumps(config).encode(), "config.v1+json"),
        "layers": descriptors,
    }
    found = _write(layout, json.dumps(manifest).encode(), "manifest.v1+json")
    return {**found, "annotations": {"org.opencontainers.image.ref.name": f"v{number}"}}


def _write(layout: Path, data: bytes, kind: str) -> dict[str, object]:
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(data)
    return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def _debian(old: Path, new: Path, number: int) -> bytes:
    """Returns the tree in which `number - 1` of ten parts of what differs are of the newer suite already."""
    out = io.BytesIO()
    with tarfile.open(old) as before, tarfile.open(new) as after, tarfile.open(fileobj=out, mode="w") as made:
        newer = {member.name: member for member in after if member.isfile()}
        for member in before:
            if member.ischr() or member.isblk():
                continue
            part = int(hashlib.sha256(member.name.encode()).hexdigest(), 16) % COUNT
            source = before
            if member.isfile() and part < number - 1 and member.name in newer:
                source, member = after, newer[member.name]
            made.addfile(member, source.extractfile(member) if member.isfile() else None)
    return out.getvalue()


def _app(number: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for index in range(_APP_FILES):
            changed = max([0, *(turn for turn in range(1, number) if index % _CHANGED_SHARE == turn % _CHANGED_SHARE)])
            data = random.Random(index * 1000 + changed).randbytes(_APP_FILE_BYTES // 2).hex().encode()
            info = tarfile.TarInfo(f"srv/app/{index // 40}/{index}.dat")
            info.size, info.mode = len(data), 0o644
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()
