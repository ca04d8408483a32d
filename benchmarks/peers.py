"""The container engines that people use, made ready to run ``true`` in the same busybox tree as Wherry."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wherry.core.proc import run

BUSYBOX = Path("/bin/busybox")
# Root on a restricted machine cannot raise its hard limits; podman tries to unless told what to set.
_PODMAN_LIMITS = "--ulimit nofile=1024:1024 --ulimit nproc=1024:1024"


@contextmanager
def prepared(scratch: Path, wherry: Path) -> Iterator[dict[str, str]]:
    """Gives engine name -> command line that runs ``true`` in a fresh container and removes it.

    crun 1.8 refuses the mixed cgroup layout of some machines; there it runs in a mount namespace without the
    v2 tree, and the cost of that wrapper is measured beside it.
    """
    tree = scratch / "rootfs"
    busybox_tree(tree)
    tarball = scratch / "rootfs.tar"
    run(["tar", "-C", str(tree), "-cf", str(tarball), "."])
    root, run_root = scratch / "wherry", scratch / "run"
    ours = f"{wherry} --root {root} --run-root {run_root}"
    run([*ours.split(), "image", "import", str(tarball), "--name", "bench:1"])
    bundle = scratch / "bundle"
    bundle.mkdir()
    (bundle / "rootfs").symlink_to(tree)
    run(["runc", "spec"], cwd=bundle)
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"] = ["/bin/true"]
    config["process"]["terminal"] = False
    config["process"].pop("rlimits", None)
    config["root"]["path"] = str(tree)
    (bundle / "config.json").write_text(json.dumps(config))
    podman = f"podman --root {scratch}/podman --runroot {scratch}/podman-run --runtime runc"
    run([*podman.split(), "import", str(tarball), "localhost/bench:1"])
    unified = Path("/sys/fs/cgroup/unified")
    wrapper = ""
    if os.path.ismount(unified):
        script = scratch / "without-v2"
        script.write_text(f'#!/bin/sh\numount {unified}\nexec "$@"\n')
        script.chmod(0o755)
        wrapper = f"unshare -m {script} "
    commands = {
        "wherry run --network none": f"{ours} run --rm --network none bench:1 true",
        "wherry run (bridge)": f"{ours} run --rm bench:1 true",
        "runc": f"runc --root {scratch}/runc run --bundle {bundle} wherry-bench-runc",
        f"crun{' (in a wrapper)' if wrapper else ''}": (
            f"{wrapper}crun --root {scratch}/crun run --bundle {bundle} wherry-bench-crun"
        ),
        "podman --network none": f"{podman} run --rm {_PODMAN_LIMITS} --network none localhost/bench:1 true",
    }
    if wrapper:
        commands["the wrapper alone"] = f"{wrapper}true"
    try:
        yield commands
    finally:
        run([*podman.split(), "system", "reset", "--force"], check=False)


def busybox_tree(tree: Path) -> None:
    """Makes a root tree of busybox alone."""
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy2(BUSYBOX, tree / "bin/busybox")
    for name in ("sh", "true", "echo", "sleep"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
