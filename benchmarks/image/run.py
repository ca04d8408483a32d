"""``make bench-image``: pulls, disk, builds and packed apps beside podman, skopeo and OSTree, from a local registry.

All in one run, each round in another order, each tool with folders of its own on one file system. Nothing passes or
fails here.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.engine.peers import PODMAN_LIMITS
from benchmarks.engine.timing import Command, print_rows, race, run_once
from benchmarks.image.versions import COUNT, layouts, tree

from wherry.core.errors import ToolError
from wherry.core.proc import run

WHERRY = Path(sys.executable).with_name("wherry")
_REGISTRY_START_S = 20
_DOCKERFILE = """\
FROM {name}:v1
ENV LANG=C.UTF-8
WORKDIR /srv/app
COPY requirements.txt .
RUN cat requirements.txt > /tmp/installed
COPY src/ src/
RUN find src -type f | sort > index
LABEL version=1
USER nobody
CMD ["true"]
"""


class Peers:
    """A registry with ten versions of an image, and tools that keep everything in folders of their own.

    Args:
        scratch: a folder of the benchmark's own.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.layout = layouts()
        self._registry: subprocess.Popen[bytes] | None = None
        self.name = ""

    def __enter__(self) -> Peers:
        port = _free_port()
        config = self.scratch / "registry.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.scratch}/registry}}}}\n"
            f"http: {{addr: '127.0.0.1:{port}'}}\n"
        )
        log = (self.scratch / "registry.log").open("wb")
        self._registry = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        self.name = f"127.0.0.1:{port}/bench"
        deadline = time.monotonic() + _REGISTRY_START_S
        first = ["skopeo", "list-tags", "--tls-verify=false", f"docker://{self.name}"]
        while b"connection refused" in (said := run(first, check=False).stderr).lower():
            if time.monotonic() > deadline:
                raise ToolError("docker-registry does not start", where=said.decode(errors="replace")[-300:])
            time.sleep(0.1)
        for number in range(1, COUNT + 1):
            source, target = f"oci:{self.layout}:v{number}", f"docker://{self.name}:v{number}"
            run(["skopeo", "copy", "-q", "--dest-tls-verify=false", source, target])
        return self

    def __exit__(self, *_error: object) -> None:
        if self._registry is not None:
            self._registry.terminate()
            self._registry.wait()
        for folder in self.scratch.glob("podman*"):
            self.forget_podman(folder)

    def wherry(self, folder: Path) -> list[str]:
        """Returns the command with its state in a folder."""
        return [str(WHERRY), "--root", str(folder), "--run-root", f"{folder}-run"]

    def podman(self, folder: Path) -> list[str]:
        """Returns the command with its state in a folder."""
        return [
            *("podman", "--root", str(folder), "--runroot", f"{folder}-run", "--tmpdir", f"{folder}-tmp"),
            *("--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"),
        ]

    def forget_podman(self, folder: Path) -> None:
        """Takes a podman's images and mounts away."""
        if folder.name.endswith(("-run", "-tmp")):
            return
        run([*self.podman(folder), "system", "reset", "--force"], check=False)


def pulls(peers: Peers, rounds: int) -> None:
    """A first pull and a run of it; then the next version, of which most files are there."""
    found: dict[str, list[float]] = {}
    order = random.Random(0)
    for turn in range(rounds):
        ways: dict[str, Callable[[Path], list[list[str]]]] = {"wherry": _wherry(peers), "podman": _podman(peers)}
        names = [*ways, "skopeo"]
        order.shuffle(names)
        for name in names:
            folder = peers.scratch / f"{name}-{turn}"
            if name == "skopeo":
                for key, tag in (("cold", "v1"), ("next", "v2")):
                    target = f"oci:{folder}:{tag}"
                    line = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{peers.name}:{tag}", target]
                    found.setdefault(f"{key}: skopeo copy to a layout", []).append(run_once(Command(line))[0])
            else:
                first, start, second = ways[name](folder)
                took = run_once(Command(first))[0] + run_once(Command(start))[0]
                found.setdefault(f"cold: {name} pull, run", []).append(took)
                found.setdefault(f"next: {name} pull", []).append(run_once(Command(second))[0])
            if name == "podman":
                peers.forget_podman(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.sync()
    for key, base in (("cold", "cold: podman pull, run"), ("next", "next: podman pull")):
        _print(f"{'A first pull, until it has run' if key == 'cold' else 'The next version'}", found, key, base)


def _wherry(peers: Peers) -> Callable[[Path], list[list[str]]]:
    def lines(folder: Path) -> list[list[str]]:
        command = peers.wherry(folder)
        return [
            [*command, "image", "pull", "-q", f"{peers.name}:v1"],
            [*command, "run", "--rm", "--network", "none", f"{peers.name}:v1", "true"],
            [*command, "image", "pull", "-q", f"{peers.name}:v2"],
        ]

    return lines


def _podman(peers: Peers) -> Callable[[Path], list[list[str]]]:
    def lines(folder: Path) -> list[list[str]]:
        command = peers.podman(folder)
        return [
            [*command, "pull", "-q", "--tls-verify=false", f"{peers.name}:v1"],
            [*command, "run", "--rm", *PODMAN_LIMITS, "--network", "none", f"{peers.name}:v1", "true"],
            [*command, "pull", "-q", "--tls-verify=false", f"{peers.name}:v2"],
        ]

    return lines


def disk(peers: Peers, _rounds: int) -> None:
    """What ten versions take on the disk."""
    folders = {name: peers.scratch / f"{name}-ten" for name in ("wherry", "podman", "ostree", "registry")}
    repo = folders["ostree"]
    run(["ostree", "init", f"--repo={repo}", "--mode=bare-user"])
    for number in range(1, COUNT + 1):
        tag = f"{peers.name}:v{number}"
        run([*peers.wherry(folders["wherry"]), "image", "pull", "-q", tag])
        run([*peers.podman(folders["podman"]), "pull", "-q", "--tls-verify=false", tag])
        laid = peers.scratch / "laid"
        tree(number, laid)
        run(["ostree", "commit", f"--repo={repo}", "-b", f"v{number}", "-s", tag, str(laid)])
        shutil.rmtree(laid)
    folders["registry"] = peers.scratch / "registry"
    sizes = {name: _used_bytes(path) for name, path in folders.items()}
    print(f"\nDisk used by {COUNT} versions (ratio to podman)")
    for name, label in (
        ("wherry", "wherry, store"),
        ("ostree", "ostree, bare-user"),
        ("registry", "docker-registry, compressed"),
        ("podman", "podman, overlay"),
    ):
        print(f"  {label:<38}{sizes[name] / 1e6:>9.1f} MB{sizes[name] / sizes['podman']:>8.2f}x")
    peers.forget_podman(folders["podman"])


def _used_bytes(folder: Path) -> int:
    """Returns the blocks that a folder takes, hard links once."""
    done = run(["du", "--block-size=1", "--summarize", "--one-file-system", str(folder)])
    return int(done.stdout.split()[0])


def builds(peers: Peers, rounds: int) -> None:
    """A build of which every step is in the cache, and the first one."""
    context = peers.scratch / "context"
    (context / "src").mkdir(parents=True)
    for number in range(200):
        (context / "src" / f"{number}.py").write_text(f"print({number})\n" * 50)
    (context / "requirements.txt").write_text("nothing\n")
    (context / "Dockerfile").write_text(_DOCKERFILE.format(name=peers.name))
    wherry, podman = peers.wherry(peers.scratch / "wherry-build"), peers.podman(peers.scratch / "podman-build")
    run([*wherry, "image", "pull", "-q", f"{peers.name}:v1"])
    run([*podman, "pull", "-q", "--tls-verify=false", f"{peers.name}:v1"])
    lines = {
        "wherry build": [*wherry, "build", "-q", "-t", "built:1", str(context)],
        "podman build": [
            *(*podman, "build", "-q", "--layers", "--isolation", "chroot", "--network", "host"),
            *("-t", "built:1", str(context)),
        ],
    }
    first = {name: [run_once(Command(line))[0]] for name, line in lines.items()}
    _print("A first build of ten instructions", first, "", "podman build")
    rows = race({name: Command(line) for name, line in lines.items()}, rounds=rounds)
    print_rows("The same build once more, all cached", rows, base="podman build")


def packs(peers: Peers, rounds: int) -> None:
    """A packed app made, and started, beside the same command in a container and in a plain chroot."""
    wherry, podman = peers.wherry(peers.scratch / "wherry-pack"), peers.podman(peers.scratch / "podman-pack")
    run([*wherry, "image", "pull", "-q", f"{peers.name}:v1"])
    run([*podman, "pull", "-q", "--tls-verify=false", f"{peers.name}:v1"])
    laid = peers.scratch / "laid-pack"
    tree(1, laid)
    os.mknod(laid / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))  # perl -e opens it
    app = peers.scratch / "app"
    whole = peers.scratch / "whole.squashfs"
    made = {
        "wherry pack of perl": [run_once(Command([*wherry, "pack", f"{peers.name}:v1", "-o", str(app), "perl"]))[0]],
        "mksquashfs of the whole tree": [
            run_once(Command(["mksquashfs", str(laid), str(whole), "-quiet", "-no-progress"]))[0]
        ],
    }
    _print("Packing", made, "", "mksquashfs of the whole tree")
    print(f"  {'size: the app':<38}{app.stat().st_size / 1e6:>9.1f} MB")
    print(f"  {'size: the whole tree':<38}{whole.stat().st_size / 1e6:>9.1f} MB")
    words = ["-e", "print 1"]
    commands = {
        "the packed app": Command([str(app), *words]),
        "chroot": Command(["chroot", str(laid), "perl", *words]),
        "wherry run": Command([*wherry, "run", "--rm", "--network", "none", f"{peers.name}:v1", "perl", *words]),
        "podman run": Command(
            [*podman, "run", "--rm", *PODMAN_LIMITS, "--network", "none", f"{peers.name}:v1", "perl", *words]
        ),
    }
    print_rows("Starting it", race(commands, rounds=rounds), base="podman run")


def _print(title: str, found: Mapping[str, Sequence[float]], prefix: str, base: str) -> None:
    unit = statistics.median(found[base])
    print(f"\n{title} ({len(found[base])} runs each; ratio to {base})")
    for name, times in sorted(found.items()):
        if name.startswith(prefix):
            middle = statistics.median(times)
            print(f"  {name:<38}{middle:>8.2f} s  {min(times):>8.2f} s min{middle / unit:>7.2f}x")


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


ROWS: dict[str, Callable[[Peers, int], None]] = {"pull": pulls, "disk": disk, "build": builds, "pack": packs}


def main() -> None:
    """Measures the tables that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    unknown = set(options.tables) - ROWS.keys()
    if unknown:
        parser.error(f"no table {unknown.pop()!r}")
    scratch = Path(tempfile.mkdtemp(prefix="wherry-bench-", dir=os.environ.get("BENCH_DIR")))
    try:
        with Peers(scratch) as peers:
            for name in options.tables or ROWS:
                ROWS[name](peers, options.rounds)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
