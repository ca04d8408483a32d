"""The step ``base``: the host's root out of its packages, without the network, the same in every run.

For a root whose packages are installed, the files of the lock become a repository of their own, and mmdebstrap installs
from there: it can take nothing else. Programs of another architecture run in qemu-user, which is looked for first. For
the variant ``extract`` nothing is run at all (`extracting.py`).

Then come the kernel's modules, and what belongs to the machine or the moment is taken away (`cleaning.py`).

Source: mmdebstrap(1); the Debian wiki, "DebianRepository/Format", flat repositories.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.build.debian.cleaning import clean
from wherry.build.debian.deb import control_of
from wherry.build.debian.extracting import furnish, unpack
from wherry.build.debian.fetching import link
from wherry.build.debian.options import Modules, Options, Variant
from wherry.build.modules import read_module
from wherry.core.durable import map_os_error, write_file
from wherry.core.errors import ToolError, Unsupported

if TYPE_CHECKING:
    from wherry.build.debian.lock import Package
    from wherry.build.modules import Chosen
    from wherry.build.steps import Place
    from wherry.spec.architecture import Architecture

RUNS_ON = {"amd64": ("amd64", "i386"), "arm64": ("arm64", "armhf", "armel"), "armhf": ("armhf", "armel")}
"""This machine's architecture -> those whose programs its kernel runs by itself."""
UNDOCUMENTED = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/lintian/*",
)
_SKIPPED = "check/qemu,check/empty,output/dev"
_STEPS = re.compile(r"(?:Unpacking|Setting up) (\S+) \(")
_TASK = "installing packages"


def make_base(
    place: Place,
    packages: Sequence[Package],
    options: Options,
    architecture: Architecture,
    *,
    epoch: int,
    chosen: Chosen | None = None,
    modules: Path | None = None,
) -> None:
    """Makes the host's root in ``root/``.

    Args:
        place: the step's; its input ``fetch`` has the packages.
        packages: those of the root.
        options: the variant, and whether documentation stays.
        architecture: the host's.
        epoch: the latest time that anything has.
        chosen: the modules of the initramfs, if there is a kernel.
        modules: the folder ``…/lib/modules/RELEASE`` of the kernel, if there is one.

    Raises:
        Unsupported: programs of the architecture do not run here.
        ToolError: a package cannot be installed; says which.
    """
    root = place.output / "root"
    debs = place.inputs["fetch"]
    if options.variant == Variant.EXTRACT:
        unpack(place, packages, debs, root)
        furnish(root)
    else:
        check_runs(architecture)
        repository = place.scratch / "repository"
        write_repository(repository, packages, debs, options.suite, architecture.name)
        _install(place, packages, options, architecture, repository, root)
        _drop(repository)
    if modules is not None and options.modules != Modules.NONE:
        _put_modules(place, root, modules, chosen if options.modules == Modules.BOOT else None)
    clean(root, epoch=epoch)


def check_runs(architecture: Architecture) -> None:
    """Refuses an architecture whose programs do not run here.

    Raises:
        Unsupported: says what to install, or what goes without it.
    """
    import os

    from wherry.engine.foreign import interpreters
    from wherry.spec.architecture import of_machine

    here = of_machine(os.uname().machine).name
    if architecture.name in RUNS_ON.get(here, (here,)):
        return
    go_name = architecture.platform.split("/")[1]
    instead = "or build with `debian: {variant: extract}`, which runs nothing"
    try:
        found = interpreters(go_name)
    except Unsupported as error:
        raise Unsupported(
            f"packages of {architecture.name} cannot be installed here: {error.what}", hint=f"{error.hint}; {instead}"
        ) from error
    if not any("F" in entry.flags for entry in found):
        raise Unsupported(
            f"the interpreter of {architecture.name} programs is not kept open (flag F of binfmt_misc)",
            where=found[0].interpreter,
            hint=f"install qemu-user-static; {instead}",
        )


def write_repository(folder: Path, packages: Sequence[Package], debs: Path, suite: str, architecture: str) -> None:
    """Makes a repository of files: flat, with the suite's name, so that apt takes it for one of the suite.

    Raises:
        InvalidInput: a file is no package.
        NoSpace: the disk is full.
    """
    stanzas: list[str] = []
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise map_os_error(error, "cannot make a repository", where=folder) from error
    for package in packages:
        link(debs / package.file_name, folder / package.file_name)
        control = control_of(debs / package.file_name)
        added = f"Filename: ./{package.file_name}\nSize: {package.size}\nSHA256: {package.sha256}\n"
        stanzas.append(f"{control}\n{added}")
    index = "\n".join(stanzas).encode()
    write_file(folder / "Packages", index)
    head = f"Origin: wherry\nSuite: {suite}\nCodename: {suite}\nArchitectures: {architecture} all\n"
    date = "Date: Thu, 01 Jan 1970 00:00:00 UTC\n"
    digest = f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n"
    write_file(folder / "Release", (head + date + digest).encode())


def _install(
    place: Place,
    packages: Sequence[Package],
    options: Options,
    architecture: Architecture,
    repository: Path,
    root: Path,
) -> None:
    told: list[str] = []
    total = 2 * len(packages)  # each is unpacked, and set up

    done = 0

    def hear(line: str) -> None:
        nonlocal done
        told.append(line)
        if _STEPS.match(line) and done < total:
            done += 1
            place.progress.update(_TASK, done // 2, len(packages), unit="packages")

    words = ["mmdebstrap", "--verbose", "--mode=root", "--format=directory", "--variant=essential"]
    words += [f"--architectures={architecture.name}", f"--skip={_SKIPPED}"]
    words += [f"--include={','.join(package.name for package in packages)}"]
    words += [f"--aptopt={option}" for option in ('APT::Sandbox::User "root"', 'Acquire::Languages "none"')]
    words += ["--dpkgopt=force-unsafe-io"]  # the result is synced as a whole, when it is kept
    words += [f"--aptopt=APT::Install-Recommends {'true' if options.recommends else 'false'}"]
    if not options.documentation:
        words += [f"--dpkgopt={option}" for option in UNDOCUMENTED]
    words += [options.suite, str(root), f"deb [trusted=yes] copy:{repository} ./"]
    try:
        place.run(words, on_line=hear)
    except ToolError as error:
        said = [line for line in told if line.startswith(("E: ", "dpkg: error", "mmdebstrap: ", "error: "))]
        if said:
            shown = "; ".join(" ".join(line.split()) for line in said[:4])
            raise ToolError(f"the packages cannot be installed: {shown}", where="mmdebstrap") from error
        raise


def _drop(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # the scratch folder goes anyway; this only frees the disk earlier


def _put_modules(place: Place, root: Path, modules: Path, chosen: Chosen | None) -> None:
    target = root / "usr/lib/modules" / modules.name
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    place.say(f"the kernel's modules: {modules.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if chosen is None:
            shutil.copytree(modules, target, symlinks=True)
            return
        target.mkdir()
        for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            if (modules / name).is_file():
                shutil.copyfile(modules / name, target / name)
        for path, source in chosen.files.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(read_module(source))
    except OSError as error:
        raise map_os_error(error, "cannot copy the kernel's modules", where=error.filename) from error
    place.run(["depmod", "-b", str(root), modules.name])
