"""A small target that the real Buildroot builds with nothing but Debian's packages: busybox, a skeleton and a tar.

Buildroot wants sources by their exact hashes, and a compiler whose C library lies in a folder of its own. So

- busybox' source is Debian's ``orig`` tarball of the same version, which is the same file as upstream's;
- the compiler is this machine's gcc behind a script that names a sysroot: Debian's libc6-dev, linux-libc-dev and
  friends with the multiarch folder made flat, and the linker's scripts (``libc.so``) changed accordingly. ``etc`` is
  left out, since Buildroot takes every ``ld*.so.*`` for a loader, ``ld.so.conf.d`` included. There is no g++, so
  Buildroot does not miss C++ in its configuration;
- tools of the host that Debian has in another version than Buildroot wants (tar 1.35, patchelf 0.13, fakeroot and what
  builds it) are packages of three lines that call this machine's own, by Buildroot's way to build a package from a
  local folder (``HOST_TAR_OVERRIDE_SRCDIR``). Builds run as root here, so that ``fakeroot`` has nothing to do.

Nothing of it is needed outside of tests: a user's Buildroot fetches what it needs.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

from wherry.core.errors import NotFound

PREFIX = "x86_64-linux-gnu"
PACKAGES = ("libc6", "libc6-dev", "libcrypt1", "libcrypt-dev", "libgcc-s1", "libgomp1", "linux-libc-dev")
BINUTILS = ("ar", "as", "ld", "nm", "objcopy", "objdump", "ranlib", "readelf", "strings", "strip")
TOOLS = {
    "attr": {},
    "acl": {},
    "m4": {"m4": 'exec /usr/bin/m4 "$@"'},
    "libtool": {"libtoolize": "exit 0"},
    "autoconf": dict.fromkeys(("autoconf", "autoheader", "autoreconf"), "exit 0"),
    "automake": dict.fromkeys(("aclocal", "automake"), "exit 0"),
    "fakeroot": {"fakeroot": '[ "$1" = -- ] && shift\nexec "$@"'},
    "patchelf": {"patchelf": "exit 0"},
    "tar": {"tar": 'exec /bin/tar "$@"'},
    "libxcrypt": {},
}
"""Packages of the host that stand in for Buildroot's -> their programs."""
CONFIGURE = """\
#!/bin/sh
for word; do
    case "$word" in
    --prefix=*) echo "PREFIX = ${word#--prefix=}" >prefix.mk ;;
    esac
done
"""
MAKEFILE = """\
include prefix.mk
all:
install:
\tmkdir -p $(PREFIX)/bin
\tfor program in $(wildcard programs/*); do install -m 755 $$program $(PREFIX)/bin/; done
"""
COMPILER = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/..
for word; do
    case "$word" in
    -print-file-name=*)
        for folder in usr/lib lib; do
            if [ -e "$here/sysroot/$folder/${word#*=}" ]; then
                readlink -f "$here/sysroot/$folder/${word#*=}"
                exit 0
            fi
        done
        ;;
    esac
done
exec /usr/bin/PROGRAM --sysroot="$here/sysroot" "$@"
"""
CONFIG = """\
BR2_x86_64=y
BR2_TOOLCHAIN_EXTERNAL=y
BR2_TOOLCHAIN_EXTERNAL_CUSTOM=y
BR2_TOOLCHAIN_EXTERNAL_PREINSTALLED=y
BR2_TOOLCHAIN_EXTERNAL_PATH="SKIFF_CONFIG_ROOT/resources/toolchain"
BR2_TOOLCHAIN_EXTERNAL_CUSTOM_PREFIX="x86_64-linux-gnu"
BR2_TOOLCHAIN_EXTERNAL_GCC_12=y
BR2_TOOLCHAIN_EXTERNAL_HEADERS_6_1=y
BR2_TOOLCHAIN_EXTERNAL_CUSTOM_GLIBC=y
# BR2_TOOLCHAIN_EXTERNAL_INET_RPC is not set
BR2_TOOLCHAIN_EXTERNAL_OPENMP=y
BR2_PACKAGE_OVERRIDE_FILE="SKIFF_CONFIG_ROOT/resources/local.mk"
BR2_PACKAGE_BUSYBOX=y
"""


def layer(folder: Path, files: dict[str, str]) -> None:
    """Makes a layer that builds offline, and the files of a test in it.

    Args:
        folder: the layer's, which is not there yet.
        files: more files, by their paths below it.
    """
    toolchain(folder / "resources/toolchain")
    lines = []
    for name, programs in TOOLS.items():
        source = folder / "resources/tools" / name
        (source / "programs").mkdir(parents=True)
        for program, text in programs.items():
            (source / "programs" / program).write_text(f"#!/bin/sh\n{text}\n")
        (source / "configure").write_text(CONFIGURE)
        (source / "configure").chmod(0o755)
        (source / "Makefile").write_text(MAKEFILE)
        place = "$(dir $(lastword $(MAKEFILE_LIST)))"
        lines.append(f"HOST_{name.upper()}_OVERRIDE_SRCDIR := {place}tools/{name}\n")
    (folder / "resources/local.mk").write_text("".join(lines))
    for name, text in {"buildroot/config": CONFIG, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def toolchain(folder: Path) -> None:
    """Makes a cross compiler that Buildroot takes, of this machine's own."""
    (folder / "bin").mkdir(parents=True)
    programs = {name: name for name in BINUTILS} | {f"gcc-{name}": f"gcc-{name}" for name in ("ar", "nm", "ranlib")}
    for name, real in programs.items():
        program = folder / "bin" / f"{PREFIX}-{name}"
        program.write_text(f'#!/bin/sh\nexec /usr/bin/{real} "$@"\n')
        program.chmod(0o755)
    for name in ("cpp", "gcc"):
        program = folder / "bin" / f"{PREFIX}-{name}"
        program.write_text(COMPILER.replace("PROGRAM", f"{PREFIX}-{name}"))
        program.chmod(0o755)
    sysroot(folder / "sysroot")


def sysroot(folder: Path) -> None:
    """Copies Debian's C library, without multiarch."""
    for package in PACKAGES:
        said = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=True)
        for line in said.stdout.splitlines():
            source = Path(line)
            flat = line.replace(f"/{PREFIX}/", "/").removeprefix("/")
            wanted = flat.startswith(("lib/", "usr/lib/", "usr/include/")) and "/gconv/" not in flat
            if not wanted or (source.is_dir() and not source.is_symlink()):
                continue
            target = folder / flat
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                # both stand in a flat folder now, and what they name is there by the same name
                name = source.resolve().name
                if name != target.name and not target.is_symlink() and not target.exists():
                    target.symlink_to(name)
            elif source.is_file():
                shutil.copyfile(source, target)
    for path in (folder / "usr/lib").iterdir():
        if path.suffix in (".so", ".a") and not path.is_symlink() and path.read_bytes()[:8].startswith(b"/* GNU"):
            text = path.read_text().replace(f"/{PREFIX}/", "/").replace("/lib64/", "/lib/")
            path.write_text(re.sub(r"^OUTPUT_FORMAT.*$", "", text, flags=re.MULTILINE))
        elif path.is_symlink() and not path.exists():
            name = path.readlink().name
            path.unlink()
            path.symlink_to(f"../../lib/{name}")
    (folder / "lib64").unlink(missing_ok=True)
    (folder / "lib64").symlink_to("lib")
    (folder / "usr/lib64").symlink_to("lib")


def source_of(tree: Path, package: str) -> tuple[str, str]:
    """Returns the file that a tree of Buildroot wants of a package, and its SHA-256."""
    text = (tree / "package" / package / f"{package}.hash").read_text()
    found = re.search(r"^sha256\s+([0-9a-f]{64})\s+(\S+\.tar\S*)$", text, re.MULTILINE)
    if not found:
        raise NotFound("no hash of its source", where=package)
    return found[2], found[1]


def put_busybox(tree: Path, downloads: Path) -> None:
    """Puts the source of busybox that a tree of Buildroot wants into its folder of downloads.

    Raises:
        NotFound: no source of packages of this machine has it.
    """
    name, checksum = source_of(tree, "busybox")
    data = debian_source(name)
    assert hashlib.sha256(data).hexdigest() == checksum, "Debian's tarball is upstream's"
    place = downloads / "busybox" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(data)


def debian_source(name: str) -> bytes:
    """Returns Debian's tarball of a source package, by its upstream name: ``busybox-1.38.0.tar.bz2``.

    Raises:
        NotFound: no source of packages of this machine has it.
    """
    package, _, rest = name.partition("-")
    version, _, suffix = rest.partition(".tar.")
    file = f"pool/main/{package[0]}/{package}/{package}_{version}.orig.tar.{suffix}"
    for mirror in mirrors():
        try:
            with urllib.request.urlopen(f"{mirror}/{file}", timeout=60) as answer:
                return bytes(answer.read())
        except OSError:
            continue
    raise NotFound("no source of packages has it", where=file)


def mirrors() -> list[str]:
    """Returns where this machine gets Debian's packages."""
    said = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)"], capture_output=True, text=True, check=False
    )
    found = [line.partition("|")[2].rstrip("/") for line in said.stdout.splitlines() if line.startswith("Debian|")]
    return list(dict.fromkeys(found))
