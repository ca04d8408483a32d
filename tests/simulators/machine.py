"""A machine whose images are made of a few files, without a container or a root tree."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from wherry.core.digest import Checksum
from wherry.image.catalog import CONFIG_KEY, DIGEST_KEY, REFERENCE_KEY, SIZE_KEY
from wherry.image.reference import Reference
from wherry.revision.project import Project
from wherry.store.format.objects import Mode
from wherry.store.repository import Repository
from wherry.store.tree.commit import commit_directory


class Machine:
    """A machine with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "machine" / "store"
        self.repo = Repository.init(self.store, Mode.BARE_USER)

    def image(self, name: str, files: dict[str, str | bytes], *, healthcheck: list[str] | None = None) -> Checksum:
        """Puts an image into the store under a name."""
        tree = self.folder / f"tree-{len(list(self.folder.iterdir()))}"
        for path, content in files.items():
            target = tree / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        tree.mkdir(exist_ok=True)
        reference = Reference.parse(name)
        config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]}}
        if healthcheck is not None:
            config["config"] = {"Cmd": ["/bin/true"], "Healthcheck": {"Test": healthcheck}}
        digest = "sha256:" + hashlib.sha256(repr((name, sorted(files.items()))).encode()).hexdigest()
        metadata = {
            CONFIG_KEY: json.dumps(config),
            DIGEST_KEY: digest,
            REFERENCE_KEY: str(reference),
            SIZE_KEY: sum(len(content) for content in files.values()),
        }
        return commit_directory(
            self.repo, tree, ref=reference.ref, timestamp_s=0, metadata=metadata, canonical_permissions=True
        )

    def project(self, name: str = "kiosk", compose: str | None = None) -> Project:
        """Makes a project folder."""
        made = Project.init(self.folder / name, name, self.store)
        if compose is not None:
            (made.root / "compose.yaml").write_text(compose)
        return made
