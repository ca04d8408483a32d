"""Images of a host as steps: one for each image, after those that it is made of; then the layers' ``hooks/post.sh``.

A hook is called with the folder of the images, as Buildroot calls its post-image scripts; what it leaves there is what
the build gives. A builder that runs these hooks itself (`steps.Plan.finished`) has them run once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.contributions import digest
from wherry.build.hosttree import TREE, run_hooks
from wherry.build.images.layout import Kind, layout_of
from wherry.build.images.making import file_name, make_one
from wherry.build.images.product import Product
from wherry.build.steps import Place, Step
from wherry.core.durable import write_file
from wherry.core.jsonio import canonical
from wherry.core.proc import run
from wherry.spec.codec import encode

if TYPE_CHECKING:
    from wherry.build.hosts import Host
    from wherry.build.images.layout import Image, Layout
    from wherry.build.steps import Plan

DIGESTS = ".digests"
"""In an image's result, a folder: the digest of each file, so that it is read once."""
POST = "post-image"
IMAGES_PLACE = Path("/build/output")
_VERSION = "2"
_TOOLS = {
    Kind.DISK: ("sfdisk", "mkfs.vfat", "mcopy", "mmd", "mke2fs", "debugfs"),
    Kind.EROFS: ("mkfs.erofs",),
    Kind.SQUASHFS: ("mksquashfs",),
    Kind.EXT4: ("mke2fs", "debugfs"),
}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Where an image is, once the steps are taken."""

    step: str
    file: str
    kind: str


def image_steps(host: Host, plan: Plan, names: Sequence[str] | None) -> tuple[list[Step], dict[str, Made]]:
    """Returns the steps that make images, and by its name where each image is that is wanted.

    Args:
        host: the host.
        plan: of its root and kernel.
        names: the images that are wanted; None: all of the layout.

    Raises:
        NotFound: the layout has no such image.
        InvalidInput: the layout is malformed.
    """
    layout = layout_of(host.inputs.contributions.chain)
    wanted = list(layout.images) if names is None else list(names)
    needed = dict.fromkeys(each for name in wanted for each in layout.needed(name))
    keys = plan.keys()
    sources = tuple(name for name in (TREE if plan.root else "", plan.boot) if name)
    identity = hashlib.sha256(canonical([host.inputs.name, *(keys[name] for name in sources)])).hexdigest()
    steps = [_image_step(host, layout, name, sources, identity, plan) for name in needed]
    made = {
        name: Made(step=step_name(name), file=file_name(name, image), kind=image.kind.value)
        for name, image in ((name, layout.image(name)) for name in wanted)
    }
    if host.inputs.contributions.hooks.get("after") and not plan.finished and made:
        steps.append(_post_step(host, made))
        made = {name: Made(step=POST, file=each.file, kind=each.kind) for name, each in made.items()}
    return steps, made


def step_name(image: str) -> str:
    """Returns the name of the step that makes an image."""
    return f"image-{image}"


def _image_step(host: Host, layout: Layout, name: str, sources: tuple[str, ...], identity: str, plan: Plan) -> Step:
    image = layout.image(name)
    inner = [each for each in layout.needed(name) if each != name]

    def work(place: Place) -> None:
        product = Product(
            root=place.inputs[TREE] / "root" if TREE in place.inputs else None,
            boot=place.inputs[plan.boot] / "boot" if plan.boot in place.inputs else None,
            architecture=host.inputs.architecture,
            board=host.board,
            epoch=host.inputs.epoch,
            name=host.inputs.name,
            identity=identity,
        )
        made = {each: place.inputs[step_name(each)] / file_name(each, layout.image(each)) for each in inner}
        write_digest(make_one(layout, name, product, place.output, place, made))

    return Step(
        name=step_name(name),
        what=f"make {file_name(name, image)}",
        work=work,
        inputs={
            "version": _VERSION,
            "image": canonical(encode(image)).decode(),
            "board": canonical(encode(host.board)).decode() if image.kind is Kind.DISK else "",
            "architecture": host.inputs.architecture.name,
            "name": host.inputs.name,
            "epoch": str(host.inputs.epoch),
            "identity": identity,
            "tools": tool_versions(image),
        },
        needs=(*sources, *(step_name(each) for each in inner)),
    )


def tool_versions(image: Image) -> str:
    """Returns what is another text when a tool that makes an image was replaced on this machine."""
    said = []
    for name in _TOOLS.get(image.kind, ()):
        found = shutil.which(name, path=_PATH)
        status = os.stat(found) if found else None
        said.append(f"{name} {status.st_size} {status.st_mtime_ns}" if status else f"{name} -")
    return "; ".join(said)


def _post_step(host: Host, made: Mapping[str, Made]) -> Step:
    hooks = host.inputs.contributions.hooks["after"]

    def work(place: Place) -> None:
        for each in made.values():
            copy_image(place.inputs[each.step] / each.file, place.output / each.file)
        run_hooks(place, host.inputs, "after", argument=IMAGES_PLACE, env={"BINARIES_DIR": str(IMAGES_PLACE)})
        for path in sorted(place.output.iterdir()):
            if path.is_file():
                write_digest(path)

    return Step(
        name=POST,
        what="run the layers' hooks over the images",
        work=work,
        inputs={
            "version": _VERSION,
            "layers": digest(host.inputs.contributions.chain, ("hooks", "resources", "scripts")),
            "name": host.inputs.name,
        },
        needs=tuple(dict.fromkeys(each.step for each in made.values())),
        layer=hooks[0].layer if len({part.layer for part in hooks}) == 1 else "",
    )


def copy_image(source: Path, target: Path) -> None:
    """Copies an image, shared with the first one where the file system can, holes where there are zeros else."""
    run(["cp", "--reflink=auto", "--sparse=always", "--", str(source), str(target)])


def write_digest(image: Path) -> None:
    """Writes the digest of an image beside it."""
    with open(image, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    (image.parent / DIGESTS).mkdir(exist_ok=True)
    write_file(image.parent / DIGESTS / image.name, f"{found}\n".encode())


def read_digest(image: Path) -> str:
    """Returns the digest of an image, 64 hex digits."""
    return (image.parent / DIGESTS / image.name).read_text().strip()
