"""The host as an image for container engines: one layer, and a config that starts its init.

It goes through a store of its own, as any image that comes from a folder, and leaves as `wherry image save` writes it:
an archive that is an OCI layout and what ``docker load`` takes at once. The layer is not compressed, since bytes that
are depend on the library that did it.

Source: OCI image-spec 1.1, config.md; systemd, "The Container Interface" (STOPSIGNAL).
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from wherry.build.images.product import Product
    from wherry.build.steps import Place

INIT = '["/sbin/init"]'
STOP_SIGNAL = "SIGRTMIN+3"
"""What systemd takes for "power off" in a container."""


def make_container(place: Place, scratch: Path, product: Product, tree: Path, out: Path) -> None:
    """Makes an archive of the host's image, named ``localhost/NAME:latest``.

    Raises:
        InvalidInput: there is something in the tree that no image can have.
        NoSpace: the disk is full.
    """
    from wherry.image.config import make_config
    from wherry.image.outgoing import outgoing
    from wherry.image.platforms import Platform
    from wherry.image.recording import record_image, tree_digest
    from wherry.image.reference import Reference
    from wherry.image.roots import Place as Part
    from wherry.image.roots import Roots
    from wherry.image.saving import Format, Named, plan, save_archive
    from wherry.store.format.objects import Mode
    from wherry.store.repository import Repository

    folder = scratch / "store"
    repo = Repository.init(folder, Mode.BARE_USER)
    roots = Roots(
        repo=repo,
        changes=(f"CMD {INIT}", f"STOPSIGNAL {STOP_SIGNAL}"),
        platform=Platform.parse(product.architecture.platform),
        progress=place.progress,
        note=place.say,
    )
    with repo.transaction():
        content = roots.from_directories([Part(path=tree)])
        created = datetime.fromtimestamp(product.epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = {**content.config.document(), "created": created}
        if product.labels:
            document["config"] = {**document["config"], "Labels": dict(sorted(product.labels.items()))}
        config = make_config(document)
        record = record_image(
            repo,
            Reference.parse(f"localhost/{product.name.lower()}:latest"),
            tree=content.tree,
            meta=content.meta,
            size_bytes=content.size_bytes,
            config=config,
            digest=tree_digest(config, content.tree, content.meta),
        )
    leaving = outgoing(repo, record, progress=place.progress)
    named = Named(leaving=leaving, reference=record.reference, main=leaving)
    save_archive(plan([named], Format.DOCKER_ARCHIVE), out, progress=place.progress)
    shutil.rmtree(folder)
