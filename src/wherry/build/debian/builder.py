"""The builder ``debian``: a host out of the distribution's packages, pinned by a lock, in four steps.

::

    fetch ──▶ kernel ──▶ boot          what boots: kernel, initramfs, device trees, firmware
       └────────┴─────▶ base           the host's root

``fetch`` alone has the network, and checks every package by its digest. Overlays, users and hooks come after ``base``,
so that a change of theirs installs nothing again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wherry.build import initramfs
from wherry.build.boards import firmware_of
from wherry.build.builder import BuilderName
from wherry.build.debian import base, boot, fetching, kernel
from wherry.build.debian.lock import Lock, Package, Role
from wherry.build.debian.locking import fitting_lock
from wherry.build.debian.options import Modules, Options, options_of
from wherry.build.debian.sources import sources_for
from wherry.build.debian.wishes import kernel_of, wishes_of
from wherry.build.modules import Chosen
from wherry.build.steps import Plan, Step

if TYPE_CHECKING:
    from wherry.build.builder import Inputs
    from wherry.build.steps import Place

RECIPE = "2"
"""Counted up when the same packages come to something else."""


class DebianBuilder:
    """See `builder.Builder`."""

    name = BuilderName.DEBIAN

    def plan(self, inputs: Inputs) -> Plan:
        """Returns the steps.

        Raises:
            NotFound: there is no lock yet.
            Conflict: the lock is of another list of packages.
            InvalidInput: an option is none, or a layer's package is none for this host.
            Unsupported: there is no kernel for the architecture.
        """
        options = options_of(inputs)
        lock = fitting_lock(inputs, options)
        with_kernel = bool(kernel_of(wishes_of(inputs, options)))
        steps = [_fetch(inputs, options, lock)]
        if lock.of(Role.BOOT):
            steps.append(_kernel(inputs, lock))
        steps.append(_base(inputs, options, lock, with_kernel=with_kernel))
        if with_kernel:
            steps.append(_boot(inputs, options))
        return Plan(steps=tuple(steps), root="base", boot="boot" if with_kernel else "")


def _digest(packages: Sequence[Package]) -> str:
    whole = hashlib.sha256()
    for package in packages:
        whole.update(f"{package.name} {package.version} {package.architecture} {package.sha256}\n".encode())
    return whole.hexdigest()


def _modules(inputs: Inputs, options: Options) -> tuple[str, ...]:
    return initramfs.wanted(inputs.board.modules, options.initramfs_modules)


def _fetch(inputs: Inputs, options: Options, lock: Lock) -> Step:
    def work(place: Place) -> None:
        sources = [] if inputs.offline else sources_for(options)
        fetching.fetch(place, lock.packages, sources, offline=inputs.offline)

    return Step(
        name="fetch",
        what="fetch packages",
        work=work,
        inputs={"packages": _digest(lock.packages)},
        network=True,
        kept=False,
    )


def _kernel(inputs: Inputs, lock: Lock) -> Step:
    packages = lock.of(Role.BOOT)
    files = firmware_of(inputs.board)
    return Step(
        name="kernel",
        what="unpack the kernel",
        work=lambda place: kernel.unpack_boot(place, packages, files),
        inputs={
            "packages": _digest(packages),
            "recipe": RECIPE,
            "firmware": " ".join(f"{file.name}={file.package}:{file.path}" for file in files),
        },
        needs=("fetch",),
    )


def _base(inputs: Inputs, options: Options, lock: Lock, *, with_kernel: bool) -> Step:
    packages = lock.of(Role.ROOT)
    modules = options.modules if with_kernel else Modules.NONE
    wanted = _modules(inputs, options)

    def work(place: Place) -> None:
        tree = kernel.modules_of(place.inputs["kernel"]) if modules != Modules.NONE else None
        chosen = boot.choose(place.inputs["kernel"], wanted) if modules == Modules.BOOT else None
        base.make_base(place, packages, options, inputs.architecture, epoch=inputs.epoch, chosen=chosen, modules=tree)

    named = {
        "packages": _digest(packages),
        "recipe": RECIPE,
        "suite": options.suite,
        "variant": options.variant.value,
        "architecture": inputs.architecture.name,
        "documentation": str(options.documentation),
        "modules": modules.value,
        "epoch": str(inputs.epoch),
    }
    if modules == Modules.BOOT:
        named["modules"] = " ".join(("boot", *wanted, "and", *initramfs.MODULES))
    return Step(
        name="base",
        what="install packages",
        work=work,
        inputs=named,
        needs=("fetch", "kernel") if modules != Modules.NONE else ("fetch",),
        makes_roots=True,
    )


def _boot(inputs: Inputs, options: Options) -> Step:
    wanted = _modules(inputs, options)
    device_tree = inputs.board.device_tree
    script = initramfs.init_script(initramfs.Contents(busybox=b"", modules=Chosen(release=""), load=wanted))
    return Step(
        name="boot",
        what="make the initramfs",
        work=lambda place: boot.make_boot(place, wanted=wanted, device_tree=device_tree, epoch=inputs.epoch),
        inputs={
            "recipe": RECIPE,
            "init": hashlib.sha256(script.encode()).hexdigest(),
            "modules": " ".join((*wanted, "and", *initramfs.MODULES)),
            "applets": " ".join(initramfs.APPLETS),
            "device tree": device_tree,
            "epoch": str(inputs.epoch),
        },
        needs=("kernel",),
    )
