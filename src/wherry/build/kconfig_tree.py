"""Trees with Kconfig files, and why settings did not take in one of them (`kconfig_explain.py`, in the sandbox).

The Kconfig files of each tree want variables that its Makefile sets, and each has a dialect of its own. A reason is a
help for people: where a tree cannot be read, every reason is "not known", the log says why, and the build goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.build import kconfig_explain
from wherry.build.kconfig import Reason, Untaken, Why
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput, NotFound, ToolError, WherryError
from wherry.core.jsonio import canonical, loads

if TYPE_CHECKING:
    from wherry.build.steps import Place

MAX_ANSWER_BYTES = 16 * 1024 * 1024
ANSWER_FILE = "kconfig-reasons.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A tree with Kconfig files."""

    folder: Path
    """Where they are read from: names in ``source`` start there."""
    kconfig: str = "Kconfig"
    prefix: str = "CONFIG_"
    environment: Mapping[str, str] = field(default_factory=dict)
    readable: tuple[Path, ...] = ()
    """More folders that they read."""


def linux(
    source: Path, *, arch: str, version: str, cross: str = "", compiler: str = "gcc", compiler_version: str = ""
) -> Tree:
    """Returns the kernel's.

    Args:
        source: the tree.
        arch: ``ARCH``.
        version: ``make kernelversion``.
        cross: what stands before the names of compilers: ``aarch64-linux-gnu-``.
        compiler: the compiler's name, after that.
        compiler_version: the first line of what ``CC --version`` says.
    """
    tools = {"CC": compiler, "LD": "ld", "AR": "ar", "NM": "nm", "OBJCOPY": "objcopy", "STRIP": "strip"}
    environment = {name: f"{cross}{tool}" for name, tool in tools.items()}
    environment |= {
        "ARCH": arch,
        "SRCARCH": {"x86_64": "x86", "i386": "x86"}.get(arch, arch),
        "SUBARCH": "x86_64" if arch == "um" else arch,
        "KERNELVERSION": version,
        "CC_VERSION_TEXT": compiler_version,
        "CLANG_FLAGS": "",
        "HOSTCC": "gcc",
        "HOSTCXX": "g++",
        "HEADER_ARCH": "x86" if arch == "um" else "",
        "PAHOLE": "pahole",
        "RUSTC": "rustc",
        "BINDGEN": "bindgen",
        "srctree": str(source),
    }
    return Tree(folder=source, environment=environment)


def busybox(folder: Path) -> Tree:
    """Returns busybox', of a folder in which its ``Config.in`` files have been generated."""
    return Tree(folder=folder, kconfig="Config.in", environment={"srctree": str(folder)})


def u_boot(source: Path, *, version: str, cross: str = "") -> Tree:
    """Returns U-Boot's."""
    environment = {
        "CC": f"{cross}gcc",
        "LD": f"{cross}ld",
        "UBOOTVERSION": version,
        "KERNELVERSION": version,
        "srctree": str(source),
    }
    return Tree(folder=source, environment=environment)


def buildroot(source: Path, *, output: Path, base: Path, version: str, host_arch: str, gcc_version: str) -> Tree:
    """Returns Buildroot's.

    Args:
        source: the tree.
        output: its output folder (``O=``), with ``.br2-external.in.*`` in it once a configuration was made.
        base: the folder that holds the generated ``Config.in`` of external trees; often ``output``.
        version: ``BR2_VERSION``.
        host_arch: what ``uname -m`` says here.
        gcc_version: of the compiler here, as ``12``.
    """
    environment = {
        "BR2_BASE_DIR": str(base),
        "BASE_DIR": str(output),
        "BR2_EXTERNAL": "",
        "BR2_VERSION_FULL": version,
        "BR2_DEFCONFIG": "",
        "CONFIG_DIR": str(output),
        "HOSTARCH": host_arch,
        "HOST_GCC_VERSION": gcc_version,
        "srctree": str(source),
    }
    return Tree(folder=source, kconfig="Config.in", prefix="", environment=environment, readable=(output, base))


def explained(place: Place, tree: Tree, config: Path, untaken: Sequence[Untaken]) -> list[Untaken]:
    """Returns settings that did not take, with their reasons, as far as these can be known.

    Args:
        place: where the Kconfig files are read: they may call shells.
        tree: theirs.
        config: the ``.config`` that came out.
        untaken: what did not take.
    """
    if not untaken:
        return []
    try:
        reasons = _ask(place, tree, config, untaken)
    except WherryError as error:
        place.say(f"why settings did not take cannot be told: {error}")
        return list(untaken)
    return [replace(each, reason=reason) for each, reason in zip(untaken, reasons, strict=True)]


def _ask(place: Place, tree: Tree, config: Path, untaken: Sequence[Untaken]) -> list[Reason]:
    library = _library()
    answer = place.scratch / ANSWER_FILE
    program = Path(kconfig_explain.__file__)
    request = {
        "answer": str(answer),
        "config": str(config),
        "folder": str(tree.folder),
        "kconfig": tree.kconfig,
        "library": str(library.parent),
        "untaken": [{"symbol": each.symbol, "asked": each.asked, "got": each.got} for each in untaken],
    }
    readable = (Path(sys.base_prefix), library, program, tree.folder, config.parent, *tree.readable)
    try:
        interpreter = Path(sys.executable).resolve(strict=True)
        place.run(
            [str(interpreter), "-I", "-S", "-B", str(program)],
            env={**tree.environment, "CONFIG_": tree.prefix},
            stdin=canonical(request),
            readable=_outside(readable),
        )
        with open(answer, "rb") as file:
            data = file.read(MAX_ANSWER_BYTES + 1)
    except OSError as error:
        raise map_os_error(error, "no reasons", where=answer) from error
    document = loads(data, where=answer, max_bytes=MAX_ANSWER_BYTES)
    if "error" in document:
        raise ToolError(str(document["error"]), where=tree.folder / tree.kconfig)
    reasons = [_reason(each) for each in document["reasons"]]
    if len(reasons) != len(untaken):
        raise InvalidInput(f"{len(reasons)} reasons for {len(untaken)} settings", where=answer)
    return reasons


def _reason(value: Mapping[str, Any]) -> Reason:
    symbols = {str(symbol): str(state) for symbol, state in value["symbols"].items()}
    return Reason(why=Why(value["why"]), text=str(value["text"]), symbols=symbols)


def _library() -> Path:
    """Returns the file of kconfiglib.

    Raises:
        NotFound: it is not installed.
    """
    import importlib.util

    found = importlib.util.find_spec("kconfiglib")
    if found is None or found.origin is None:
        raise NotFound("kconfiglib is not installed", hint="install Wherry with its extra 'build'")
    return Path(found.origin)


def _outside(paths: Sequence[Path]) -> list[Path]:
    """Returns what a sandbox does not show anyway."""
    return [path for path in dict.fromkeys(paths) if not path.is_relative_to("/usr")]
