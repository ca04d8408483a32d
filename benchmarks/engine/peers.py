"""The engines that people use, made ready to run ``true`` in one and the same busybox tree.

Each peer keeps its state in the scratch folder, and what does not outlive a boot in memory, as everybody's /run is,
even where that of the machine that measures is on a disk. dockerd runs in network and mount namespaces of its own, as
it sets the policy of the host's FORWARD chain. crun 1.8 refuses the mixed control groups of some machines: there it
runs where the tree of version 2 is taken away, by a wrapper that is measured beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wherry.core.errors import Timeout
from wherry.core.proc import run

BUSYBOX = Path("/bin/busybox")
PODMAN_LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""Root on a restricted machine cannot raise its hard limits; podman tries to unless told what to set."""
UNIFIED = Path("/sys/fs/cgroup/unified")
PROFILE = Path("/usr/share/containers/seccomp.json")
"""The default filter of podman, in docker's form; Debian's golang-github-containers-common ships it."""
_DOCKERD_START_S = 60


class Peers:
    """Every engine, ready.

    Args:
        scratch: a folder of the benchmark's own.
        wherry: the command.
    """

    def __init__(self, scratch: Path, wherry: Path) -> None:
        self.scratch = scratch
        self.tree = scratch / "rootfs"
        busybox_tree(self.tree)
        self.tarball = scratch / "rootfs.tar"
        run(["tar", "-C", str(self.tree), "-cf", str(self.tarball), "."])
        memory = self._memory = scratch / "run"
        memory.mkdir()
        self.run_root = memory / "wherry"
        run(["mount", "-t", "tmpfs", "tmpfs", str(memory)])
        self.wherry = [str(wherry), "--root", str(scratch / "wherry"), "--run-root", str(self.run_root)]
        self.wherry_runtime = [str(wherry), "runtime", "--root", str(memory / "wherry-runtime")]
        self.runc = ["runc", "--root", str(memory / "runc")]
        self.crun = [*self._without_v2(), "crun", "--root", str(memory / "crun")]
        self.podman = [
            *("podman", "--root", str(scratch / "podman"), "--runroot", str(memory / "podman")),
            *("--tmpdir", str(memory / "podman-tmp"), "--runtime", "runc", "--cgroup-manager", "cgroupfs"),
        ]
        self.docker: list[str] = []
        run([*self.wherry, "image", "import", str(self.tarball), "--name", "bench:1"])
        run([*self.podman, "import", str(self.tarball), "localhost/bench:1"])
        self.floor = scratch / "floor"
        run(["gcc", "-O2", "-o", str(self.floor), str(Path(__file__).with_name("floor.c"))])
        for name in ("upper", "work", "merged"):
            (scratch / "overlay" / name).mkdir(parents=True)
        self.minc = scratch / "minc-like"
        self.minc.write_text(_MINC_LIKE)
        self.minc.chmod(0o755)
        self.lxc = scratch / "lxc.conf"
        self.lxc.write_text(
            f"lxc.rootfs.path = {self.tree}\nlxc.uts.name = bench\nlxc.net.0.type = empty\n"
            "lxc.mount.auto = proc:mixed sys:ro\nlxc.pty.max = 1\n"
        )

    def _without_v2(self) -> list[str]:
        if not os.path.ismount(UNIFIED):
            return []
        script = self.scratch / "without-v2"
        script.write_text(f'#!/bin/sh\numount {UNIFIED}\nexec "$@"\n')
        script.chmod(0o755)
        return ["unshare", "-m", str(script)]

    @property
    def wrapper(self) -> list[str]:
        """What stands before crun, or nothing."""
        return self._without_v2()

    def bundle(self, name: str, *args: str) -> Path:
        """Makes an OCI bundle of docker's shape that runs a command: runc's own specification, without a terminal."""
        folder = self.scratch / f"bundle-{name}"
        folder.mkdir()
        run(["runc", "spec"], cwd=folder)
        config = json.loads((folder / "config.json").read_text())
        config["process"].update(args=list(args), terminal=False)
        config["process"].pop("rlimits", None)
        config["root"] = {"path": str(self.tree), "readonly": True}
        config["linux"]["seccomp"] = oci_filter(json.loads(PROFILE.read_text()))
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    @contextmanager
    def dockerd(self) -> Iterator[None]:
        """Runs a docker daemon; inside the block, `docker` is the command that speaks to it, "" where there is none."""
        if shutil.which("dockerd") is None or shutil.which("docker") is None:
            yield
            return
        socket = self.scratch / "docker.sock"
        data, state = self.scratch / "docker", self._memory / "docker-exec"
        log = (self.scratch / "dockerd.log").open("wb")
        daemon = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up && exec dockerd "$@"', "dockerd"),
                *("--data-root", str(data), "--exec-root", str(state), "--pidfile", str(self.scratch / "docker.pid")),
                *("--host", f"unix://{socket}", "--storage-driver", "overlay2", "--default-ulimit", "nofile=1024:1024"),
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            docker = ["docker", "--host", f"unix://{socket}"]
            deadline = time.monotonic() + _DOCKERD_START_S
            while run([*docker, "version"], check=False).returncode:
                if time.monotonic() > deadline or daemon.poll() is not None:
                    raise Timeout("dockerd does not start", where=self.scratch / "dockerd.log")
                time.sleep(0.2)
            run([*docker, "import", str(self.tarball), "bench:1"])
            self.docker = docker
            yield
        finally:
            self.docker = []
            daemon.send_signal(signal.SIGTERM)
            daemon.wait()
            log.close()

    def close(self) -> None:
        """Takes away what the peers would leave behind."""
        run([*self.podman, "system", "reset", "--force"], check=False)
        for engine in (self.runc, self.crun, self.wherry_runtime):
            listed = run([*engine, "list", "-q"], check=False).stdout.decode().split()
            for name in listed:
                run([*engine, "delete", "--force", name], check=False)
        run(["umount", str(self._memory)])


_MINC_LIKE = """#!/bin/sh
# A container in a shell, as MINCS has it: minc-like ROOTFS SCRATCH COMMAND...
set -e
root=$1 scratch=$2
shift 2
exec unshare -iumpf sh -c '
mount --make-rprivate /
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/merged"
root=$2/merged
shift 2
hostname minc
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,mode=755 dev "$root/dev"
for node in "null 1 3" "zero 1 5" "random 1 8" "urandom 1 9"; do
	set -- $node -- "$@"
	mknod -m 666 "$root/dev/$1" c "$2" "$3"
	shift 4
done
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
exec chroot "$root" "$@"' minc "$root" "$scratch" "$@"
"""


def oci_filter(profile: dict[str, Any]) -> dict[str, Any]:
    """Returns a profile of docker's form as OCI's, for a container without further capabilities on x86_64."""
    rules = []
    for rule in profile["syscalls"]:
        wanted, unwanted = rule.get("includes") or {}, rule.get("excludes") or {}
        if wanted.get("caps") or (wanted.get("arches") and "amd64" not in wanted["arches"]):
            continue
        if "amd64" in (unwanted.get("arches") or ()):
            continue
        rules.append({key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)})
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile.get("defaultErrnoRet", 1),
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    }


def busybox_tree(tree: Path) -> None:
    """Makes a root tree of busybox alone."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "usr", "var", "run"):
        (tree / name).mkdir(parents=True)
    shutil.copy2(BUSYBOX, tree / "bin/busybox")
    for name in ("sh", "true", "echo", "sleep"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
