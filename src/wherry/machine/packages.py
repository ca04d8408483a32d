"""Kernels from the distribution's packages, of any of its architectures, without a change to this machine's own apt.

apt gets a state and a cache of its own, and everything else from this machine: its sources, keys, proxies and pins. So
what it fetches is verified by its own chain: the signature of the release, its index, the digest of the package. What
is not signed is refused. dpkg unpacks and installs nothing; no script of a package is run.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from wherry.core.errors import NotFound, ToolError, Unsupported
from wherry.core.proc import run
from wherry.core.progress import QUIET, Progress
from wherry.machine import modules
from wherry.machine.kernels import Kernel, Kernels
from wherry.spec.architecture import Architecture

KERNEL_PACKAGES = {
    "amd64": "linux-image-amd64",
    "i386": "linux-image-686",
    "arm64": "linux-image-arm64",
    "armhf": "linux-image-armmp",
    "armel": "linux-image-rpi",
    "riscv64": "linux-image-riscv64",
}
UML_PACKAGE = "user-mode-linux"
BUSYBOX_PACKAGE = "busybox-static"
UPDATE_S, DOWNLOAD_S, UNPACK_S = 300, 900, 300
_DEPENDS = re.compile(r"linux-image-[0-9][^ ,(]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Apt:
    """apt with a state of its own.

    Args:
        folder: for its state.
        architecture: Debian's name.
    """

    folder: Path
    architecture: str

    def prepare(self) -> None:
        """Makes the folders that it wants."""
        for name in ("lists/partial", "cache/archives/partial", "packages"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()

    def words(self, program: str) -> list[str]:
        """Returns the beginning of a command line."""
        settings = {
            "APT::Architecture": self.architecture,
            "APT::Architectures::": self.architecture,
            "Dir::State": self.folder,
            "Dir::State::lists": self.folder / "lists",
            "Dir::State::status": self.folder / "status",
            "Dir::Cache": self.folder / "cache",
            "APT::Sandbox::User": "root",
            "APT::Get::AllowUnauthenticated": "false",
            "Acquire::AllowInsecureRepositories": "false",
            "Acquire::Languages": "none",
        }
        return [program, *(word for key, value in settings.items() for word in ("-o", f"{key}={value}"))]

    def update(self) -> None:
        """Fetches the lists of packages; a source that lacks this architecture does not matter."""
        done = run([*self.words("apt-get"), "update", "-qq"], timeout_s=UPDATE_S, check=False, env=_environment())
        if not any((self.folder / "lists").glob("*_Packages*")):
            said = done.stderr.decode(errors="replace").strip().replace("\n", " | ")[-400:]
            raise ToolError(f"apt has no packages for {self.architecture}: {said or 'no source has any'}")

    def shown(self, package: str) -> dict[str, str]:
        """Returns the fields of a package that is there.

        Raises:
            NotFound: there is none of that name.
        """
        words = [*self.words("apt-cache"), "show", "--no-all-versions", package]
        done = run(words, check=False, env=_environment())
        fields: dict[str, str] = {}
        for line in done.stdout.decode(errors="replace").splitlines():
            key, colon, value = line.partition(": ")
            if colon and not line.startswith(" "):
                fields.setdefault(key, value)
        if done.returncode or "Version" not in fields:
            raise NotFound(f"no package {package} for {self.architecture}", hint="see this machine's apt sources")
        return fields

    def unpack(self, package: str, target: Path) -> None:
        """Fetches a package and unpacks its files.

        Raises:
            ToolError: it could not be fetched, or is not signed for.
        """
        place = self.folder / "packages" / package
        place.mkdir()
        run([*self.words("apt-get"), "download", "-qq", package], cwd=place, timeout_s=DOWNLOAD_S, env=_environment())
        file = next(place.glob("*.deb"), None)
        if file is None:
            raise ToolError(f"apt did not fetch {package}")
        run(["dpkg", "-x", str(file), str(target)], timeout_s=UNPACK_S)
        shutil.rmtree(place)


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath + ":/usr/sbin:/sbin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "HOME": "/"}


def fetch(kernels: Kernels, architecture: Architecture, *, uml: bool = False, progress: Progress = QUIET) -> Kernel:
    """Fetches the distribution's kernel and busybox for an architecture.

    Args:
        kernels: where it is put, in the place of the one before.
        architecture: for QEMU any that the distribution has; for user-mode Linux this machine's.
        uml: user-mode Linux.
        progress: told of the steps.

    Raises:
        NotFound: the distribution has none.
        ToolError: apt failed, or the package is not signed for.
        Unsupported: apt, dpkg or kmod is not installed.
    """
    for program, package in (("apt-get", "apt"), ("dpkg", "dpkg")):
        if shutil.which(program) is None:
            raise Unsupported(f"no {program} here", hint=f"{package} fetches kernels; add one with `wherry kernel add`")
    name = architecture.name
    steps = 4
    with kernels.new(name, uml=uml) as new:
        apt = Apt(folder=new / ".apt", architecture=name)
        apt.prepare()
        progress.update(f"fetching the list of packages of {name}", 0, steps)
        apt.update()
        package, version = _package_of(apt, name, uml=uml)
        tree = new / ".tree"
        progress.update(f"fetching {package}", 1, steps)
        apt.unpack(package, tree)
        progress.update("fetching busybox", 2, steps)
        apt.unpack(BUSYBOX_PACKAGE, tree)
        progress.update("unpacking the kernel", 3, steps)
        release = _take_uml(tree, new) if uml else _take(tree, new)
        shutil.copyfile(tree / "bin/busybox", new / "busybox")
        (new / "busybox").chmod(0o755)
        shutil.rmtree(tree)
        shutil.rmtree(new / ".apt")
        source = f"{package} {version}"
        found = kernels.put(new, architecture=name, uml=uml, version=release, source=source)
        progress.update("unpacking the kernel", steps, steps)
        return found


def _package_of(apt: Apt, name: str, *, uml: bool) -> tuple[str, str]:
    """Returns the package with the kernel, and its version; the usual package only names it."""
    if uml:
        return UML_PACKAGE, apt.shown(UML_PACKAGE)["Version"]
    usual = KERNEL_PACKAGES.get(name)
    if usual is None:
        raise Unsupported(f"the distribution's package of the kernel for {name} is not known")
    match = _DEPENDS.search(apt.shown(usual).get("Depends", ""))
    package = match.group(0) if match else usual
    return package, apt.shown(package)["Version"]


def _take(tree: Path, new: Path) -> str:
    """Takes kernel and modules out of an unpacked package; returns the kernel's release."""
    image = next((tree / "boot").glob("vmlinu[xz]-*"), None)
    if image is None:
        raise NotFound("no kernel in the package")
    (new / "kernel").write_bytes(modules.bare_kernel(image.read_bytes()))
    release = image.name.partition("-")[2]
    base = tree if (tree / "lib/modules").is_dir() else tree / "usr"
    run(["depmod", "-b", str(base), release], hint="apt install kmod", env=_environment())
    library = base / "lib/modules" / release
    needed = modules.in_order(library, modules.NEEDED)
    found = modules.in_order(library, modules.NEEDED, optional=modules.WELCOME)
    for folder in ("modules", "more"):
        (new / folder).mkdir()
    for index, path in enumerate(found):
        folder = "modules" if path in needed else "more"
        plain = path.name.partition(".ko")[0]
        (new / folder / f"{index:02}-{plain}.ko").write_bytes(modules.unpacked(path.read_bytes()))
    return release


def _take_uml(tree: Path, new: Path) -> str:
    shutil.copyfile(tree / "usr/bin/linux.uml", new / "kernel")
    (new / "kernel").chmod(0o755)
    folder = tree / "usr/lib/uml/modules"
    return next((entry.name for entry in folder.iterdir()), "") if folder.is_dir() else ""
