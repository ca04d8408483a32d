"""The builder ``source``: a kernel and busybox compiled from pinned sources, for images of a few megabytes.

::

    sources ─┬─ kernel-source ── kernel-config ── kernel ──┬───────────────────────┐
             ├─ busybox-source ── busybox ─────────────────┼─ base ─ over ─ root ──┴─ boot
             └─ libcap-source ── libcap (if asked) ────────┘

Only ``sources`` has the network. Sources that were unpacked are kept, so that all architectures share them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wherry.build.builder import BuilderName, Inputs
from wherry.build.contributions import digest
from wherry.build.fragments import Merged
from wherry.build.hosttree import OVER, over_step
from wherry.build.source import busybox, initramfs, kernel, libcap, locking, unpacking
from wherry.build.source.options import UML, Options, options_of
from wherry.build.source.tools import Target, check_tools, compiler_digest, target_of
from wherry.build.steps import Plan, Step
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.contributions import Part
    from wherry.build.source.lock import Lock
    from wherry.build.steps import Place

_VERSION = "1"
"""Another one where the same inputs make something else."""
ARCHITECTURES = ("amd64", "i386", "arm64", "armhf", "armel", "riscv64")
_STEPS = {"kernel": kernel.SOURCE_STEP, "busybox": busybox.SOURCE_STEP, "libcap": libcap.SOURCE_STEP}


class SourceBuilder:
    """The builder."""

    name = BuilderName.SOURCE

    def plan(self, inputs: Inputs) -> Plan:
        """Returns the steps that make the host.

        Raises:
            NotFound: there is no lock, or a compiler is missing; says how to come by it.
            InvalidInput: layers or options do not fit this builder.
            Conflict: the lock was made for something else.
            Unsupported: it has no way to build for this architecture.
        """
        options = options_of(inputs)
        target = target_of(inputs.architecture, uml=options.arch == UML)
        _check(inputs)
        check_tools(target)
        lock = locking.fitting_lock(inputs, options)
        return Plan(
            steps=(
                _sources(inputs, options, lock),
                *_unpacked(inputs, options, lock),
                *_kernel(inputs, options, target),
                _busybox(inputs, options, target),
                *_libcap(options, target),
                *_root(inputs, options),
            ),
            root=initramfs.ROOT,
            boot=initramfs.BOOT,
            finished=True,
        )


def _check(inputs: Inputs) -> None:
    """Refuses what layers have for other builders only, where leaving it out would be noticed too late."""
    found = inputs.contributions
    for kind in ("kernel", "busybox"):
        if not found.fragments[kind].history:
            raise InvalidInput(
                f"no layer says what {kind} shall have",
                hint=f"a layer's folder {kind}/ has it; tiny/x86_64 and its like do",
            )
    if found.packages:
        line = found.packages[0]
        raise InvalidInput(
            f"packages are for the builder debian: {line.text}",
            where=f"{line.layer}: {line.path}:{line.line}",
            hint="`builder: debian` in host.yaml",
        )


def _sources(inputs: Inputs, options: Options, lock: Lock) -> Step:
    pinned = [file for role in options.origins() for file in lock.of(role)]
    origins = [origin for origin in options.origins().values() if origin.url]

    def work(place: Place) -> None:
        repositories = locking.repositories(options) if pinned else []
        unpacking.fetch_sources(
            place, pinned, origins, repositories, workspace=inputs.workspace, offline=inputs.offline
        )

    wanted = {file.file_name: file.sha256 for file in pinned}
    wanted |= {unpacking.file_name(origin): origin.sha256 for origin in origins}
    return Step(
        name=unpacking.SOURCES,
        what="fetch sources",
        work=work,
        inputs={"version": _VERSION, **{f"file {name}": sha256 for name, sha256 in wanted.items()}},
        network=True,
    )


def _unpacked(inputs: Inputs, options: Options, lock: Lock) -> list[Step]:
    steps: list[Step] = []
    for role, origin in options.origins().items():
        patches = inputs.contributions.patches.get("kernel_patches", ()) if role == "kernel" else ()
        names = [unpacking.file_name(origin)] if origin.url else [file.file_name for file in lock.of(role)]
        patched = digest(inputs.contributions.chain, ("kernel_patches",)) if patches else ""
        steps.append(
            Step(
                name=_STEPS[role],
                what=f"unpack {role}" + (", patch it" if patches else ""),
                work=_unpack(names, patches),
                inputs={"version": _VERSION, "files": " ".join(names), "patches": patched},
                needs=(unpacking.SOURCES,),
                layer=patches[0].layer if len({part.layer for part in patches}) == 1 else "",
            )
        )
    return steps


def _unpack(names: Sequence[str], patches: Sequence[Part]) -> Callable[[Place], None]:
    return lambda place: unpacking.unpack(place, names, patches)


def _text(asked: Merged) -> str:
    """Returns the part of fragments that counts for a key: values, and who asked, for the report."""
    return "".join(f"{setting.text()} {setting.where}\n" for setting in asked.settings())


def kernel_recipe(inputs: Inputs, options: Options, target: Target) -> kernel.Recipe:
    """Returns how the kernel is compiled."""
    return kernel.Recipe(target=target, jobs=_jobs(options), epoch=inputs.epoch, device_tree=inputs.board.device_tree)


def busybox_recipe(inputs: Inputs, options: Options, target: Target) -> busybox.Recipe:
    """Returns how busybox is compiled."""
    return busybox.Recipe(target=target, jobs=_jobs(options), cflags=inputs.contributions.joined_cflags)


def _kernel(inputs: Inputs, options: Options, target: Target) -> list[Step]:
    asked = inputs.contributions.fragments["kernel"]
    recipe = kernel_recipe(inputs, options, target)
    common = {"version": _VERSION, "arch": target.arch, "cross": target.cross, "compiler": compiler_digest(target)}
    return [
        Step(
            name=kernel.CONFIG_STEP,
            what="configure the kernel",
            work=lambda place: kernel.configure(place, recipe, options.kernel.base, asked),
            inputs={**common, "base": options.kernel.base, "asked": _text(asked)},
            needs=(kernel.SOURCE_STEP,),
        ),
        Step(
            name=kernel.STEP,
            what="compile the kernel",
            work=lambda place: kernel.compile_kernel(place, recipe),
            inputs={**common, "epoch": str(inputs.epoch), "device tree": recipe.device_tree},
            needs=(kernel.SOURCE_STEP, kernel.CONFIG_STEP),
        ),
    ]


def _busybox(inputs: Inputs, options: Options, target: Target) -> Step:
    asked = inputs.contributions.fragments["busybox"]
    recipe = busybox_recipe(inputs, options, target)
    return Step(
        name=busybox.STEP,
        what="compile busybox",
        work=lambda place: busybox.compile_busybox(place, recipe, options.busybox.base, asked),
        inputs={
            "version": _VERSION,
            "cross": target.cross,
            "compiler": compiler_digest(target),
            "base": options.busybox.base,
            "asked": _text(asked),
            "cflags": recipe.cflags,
        },
        needs=(busybox.SOURCE_STEP,),
    )


def _libcap(options: Options, target: Target) -> list[Step]:
    if options.libcap is None:
        return []
    return [
        Step(
            name=libcap.STEP,
            what="compile libcap",
            work=lambda place: libcap.compile_libcap(place, target),
            inputs={"version": _VERSION, "cross": target.cross, "compiler": compiler_digest(target)},
            needs=(libcap.SOURCE_STEP,),
        )
    ]


def _root(inputs: Inputs, options: Options) -> list[Step]:
    made = (kernel.STEP, busybox.STEP, *((libcap.STEP,) if options.libcap is not None else ()))
    return [
        Step(
            name=initramfs.BASE,
            what="put busybox and its like into a root",
            work=initramfs.make_base,
            inputs={"version": _VERSION},
            needs=made,
        ),
        over_step(inputs, initramfs.BASE),
        Step(
            name=initramfs.ROOT,
            what="put the root together",
            work=initramfs.make_root,
            inputs={"version": _VERSION},
            needs=(initramfs.BASE, OVER),
        ),
        Step(
            name=initramfs.BOOT,
            what="pack the initramfs",
            work=lambda place: initramfs.make_boot(place, options.compression, inputs.epoch),
            inputs={"version": _VERSION, "compression": options.compression.value, "epoch": str(inputs.epoch)},
            needs=(kernel.CONFIG_STEP, kernel.STEP, busybox.STEP, initramfs.ROOT),
        ),
    ]


def _jobs(options: Options) -> int:
    return options.jobs or len(os.sched_getaffinity(0))
