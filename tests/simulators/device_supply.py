"""A simulated supply of revisions: the hub's side and the device's store are two folders of small files.

``offer`` puts a revision on the hub's side, signed or not. What the device has is a file for each object, so that a
killed process leaves what it had fetched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from wherry.core.digest import Checksum
from wherry.core.errors import IntegrityError, NetworkError, NotFound, TrustError
from wherry.device.interfaces import Plan, ProgressCall
from wherry.spec.container import App, AppImage
from wherry.spec.revision import Revision, parse_revision, serialize_revision


def commit_of(text: str) -> Checksum:
    return Checksum(hashlib.sha256(text.encode()).hexdigest())


def app(image: str, **settings: Any) -> App:
    commit = commit_of(image)
    return App(image=AppImage(reference=image, commit=commit, digest=f"sha256:{commit}"), **settings)


class SimSupply:
    def __init__(self, hub: Path, store: Path) -> None:
        self._hub = hub
        self._store = store
        self.reachable = True
        hub.mkdir(parents=True, exist_ok=True)
        store.mkdir(parents=True, exist_ok=True)

    def offer(self, revision: Revision, *, signed: bool = True, object_bytes: int = 10) -> Checksum:
        """Puts a revision on the hub, and returns its commit."""
        document = serialize_revision(revision)
        commit = commit_of(document.decode() + str(signed))
        objects = {f"{commit}.doc": len(document)}
        for component in revision.components():
            objects.update({f"{component}.{index}": object_bytes for index in range(3)})
        offer = {"document": document.decode(), "signed": signed, "objects": objects}
        (self._hub / commit).write_text(json.dumps(offer))
        return commit

    def spoil(self, commit: Checksum) -> None:
        """Has the bytes of a revision's objects not be what they should be."""
        offer = self._offer(commit)
        (self._hub / commit).write_text(json.dumps({**offer, "spoiled": True}))

    def mend(self, commit: Checksum) -> None:
        offer = self._offer(commit)
        (self._hub / commit).write_text(json.dumps({**offer, "spoiled": False}))

    def has(self, commit: Checksum) -> bool:
        return (self._store / f"{commit}.doc").exists()

    def plan(self, revision: Checksum, tick: Callable[[], None] = lambda: None) -> Plan:
        offer = self._offer(revision)
        if not offer["signed"]:
            raise TrustError("not signed by a trusted key", where=f"revision {revision[:12]}")
        missing = {name: size for name, size in offer["objects"].items() if not (self._store / name).exists()}
        size = sum(missing.values())
        return Plan(
            revision=parse_revision(offer["document"].encode()),
            objects=tuple(missing),
            transfer_bytes=size,
            disk_bytes=size,
        )

    def fetch(self, revision: Checksum, progress: ProgressCall) -> int:
        offer = self._offer(revision)
        plan = self.plan(revision)
        done = 0
        for name in plan.objects:
            if offer.get("spoiled"):
                raise IntegrityError("bytes do not have their checksum", where=name)
            (self._store / name).write_text(offer["document"] if name.endswith(".doc") else name)
            done += offer["objects"][name]
            progress(done, plan.transfer_bytes)
        return done

    def verify(self, revision: Checksum) -> Revision:
        try:
            document = (self._store / f"{revision}.doc").read_bytes()
        except FileNotFoundError:
            raise NotFound("no such revision here", where=revision[:12]) from None
        return parse_revision(document)

    def lay_out_config(self, revision: Checksum, app: str, target: Path) -> None:
        target.mkdir()
        (target / f"{app}.conf").write_text(revision)

    def keep(self, revisions: Collection[Revision], commits: Collection[Checksum]) -> None:
        kept = set(commits) | {component for revision in revisions for component in revision.components()}
        for path in self._store.iterdir():
            if path.name.partition(".")[0] not in kept:
                path.unlink()

    def _offer(self, commit: Checksum) -> dict[str, Any]:
        if not self.reachable:
            raise NetworkError("no answer", where="http://hub.example")
        try:
            offer: dict[str, Any] = json.loads((self._hub / commit).read_text())
        except FileNotFoundError:
            raise NotFound("the hub does not have it", where=commit[:12]) from None
        return offer
