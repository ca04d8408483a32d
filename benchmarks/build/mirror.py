"""A mirror of the few hundred packages that every peer installs from: made once, from this machine's own apt sources.

::

    CACHE/mirror-DIGEST/        of the list of packages
      dists/bookworm/{Release,main/binary-amd64/{Packages,Packages.xz}}     unsigned: it is used as trusted
      pool/*.deb

What the distribution says of a package (its priority above all, by which debootstrap chooses) is taken from apt's
lists, not from the package.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from wherry.core.lock import file_lock
from wherry.core.proc import run

CACHE = Path(__file__).parents[2] / "build/cache/build"
SUITE = "bookworm"
BOOT = ("linux-image-amd64", "busybox-static", "systemd-boot-efi")
"""What a host starts with, besides its layers' packages."""
BASE = (
    "systemd-sysv", "udev", "kmod", "dbus", "libpam-systemd", "systemd-resolved", "systemd-timesyncd", "iproute2",
    "netbase", "e2fsprogs", "login", "passwd",
)  # fmt: skip
"""Those of the layer host/base."""
MINIMAL = ("busybox-static",)
"""Those of the layer host/minimal."""
_MKOSI = ("apt", "ca-certificates", "systemd", "dracut", "systemd-boot")
"""What mkosi 14 takes of its own accord."""
_MERGED = ("usr-is-merged",)
"""What debootstrap takes in the place of usrmerge, which mmdebstrap takes: apt has one or the other."""
_PATTERNS = ("?narrow(?architecture(amd64),?essential)", "?narrow(?architecture(amd64),?priority(required))")
_INSTALLED = re.compile(r"Inst (\S+) (?:\[[^\]]*\] )?\((\S+) .*\[(\S+)\]\)")
_BINARIES = "main/binary-amd64/Packages"


def mirror() -> Path:
    """Returns the mirror; made once, which takes a minute and the network."""
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = [*_PATTERNS, *BOOT, *BASE, *MINIMAL, *_MKOSI, *_MERGED]
    with file_lock(CACHE / ".lock"):
        done = CACHE / f"mirror-{hashlib.sha256(' '.join(wanted).encode()).hexdigest()[:12]}"
        if not done.is_dir():
            making = CACHE / ".mirror"
            shutil.rmtree(making, ignore_errors=True)
            _make(making, sorted({*_resolve(wanted[: -len(_MERGED)]), *_resolve(_MERGED)}))
            os.rename(making, done)
        return done


def line(scheme: str, folder: Path) -> str:
    """Returns the mirror as a line of sources.list(5)."""
    return f"deb [trusted=yes] {scheme}:{folder} {SUITE} main"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serves a folder on the loopback address; gives its line of sources.list(5)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"deb [trusted=yes] http://127.0.0.1:{server.server_address[1]} {SUITE} main"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _resolve(words: Sequence[str]) -> set[tuple[str, str]]:
    """Returns names and versions of all packages that a list comes to, as if nothing was installed."""
    options = ["-o", "Dir::State::status=/dev/null", "-o", "APT::Install-Recommends=false"]
    told = run(["apt-get", "--simulate", "--quiet", *options, "install", *words]).stdout.decode()
    matches = [_INSTALLED.match(each) for each in told.splitlines()]
    return {(match[1], match[2]) for match in matches if match}


def _make(folder: Path, packages: Sequence[tuple[str, str]]) -> None:
    print(f"==> making a mirror of {len(packages)} packages (once)", flush=True)
    pool = folder / "pool"
    pool.mkdir(parents=True)
    named = [f"{name}={version}" for name, version in packages]
    run(["apt-get", "--quiet", "-o", "APT::Sandbox::User=root", "download", *named], cwd=pool)
    stanzas = []
    said = run(["apt-cache", "show", *named]).stdout.decode().strip().split("\n\n")
    for stanza in dict.fromkeys(said):
        fields = dict(each.split(": ", 1) for each in stanza.splitlines() if ": " in each and each[0] != " ")
        own, architecture, whole = fields["Package"], fields["Architecture"], fields["Version"]
        file = f"{own}_{whole.rpartition(':')[2]}_{architecture}.deb"
        (pool / f"{own}_{whole.replace(':', '%3a')}_{architecture}.deb").rename(pool / file)
        kept = [each for each in stanza.splitlines() if not each.startswith(("Filename:", "Status:", "Conffiles:"))]
        stanzas.append("\n".join([*kept, f"Filename: pool/{file}"]))
    index = "".join(
        f"{each}\n\n" for each in stanzas
    ).encode()  # debootstrap overlooks a last one without an empty line
    top = folder / "dists" / SUITE
    (top / _BINARIES).parent.mkdir(parents=True)
    files = {_BINARIES: index, f"{_BINARIES}.xz": lzma.compress(index)}
    for name, data in files.items():
        (top / name).write_bytes(data)
    release = f"Origin: bench\nSuite: {SUITE}\nCodename: {SUITE}\nArchitectures: amd64\nComponents: main\n"
    release += "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
    release += "".join(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n" for name, data in files.items())
    (top / "Release").write_text(release)
