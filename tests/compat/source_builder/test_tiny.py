"""Tiny hosts of every architecture, compiled from the distribution's sources: booted, running a container's root.

It fetches 140 MB from the mirrors of this machine's apt and compiles six kernels, the longest for a quarter of an hour:
for the deep run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.fixtures.busybox import make_tree

from wherry.build.builtin import builtin_layers
from wherry.build.executing import Execution
from wherry.build.hosts import Host, load_host
from wherry.build.layers import Layers, find_layers
from wherry.build.locks import make_lock
from wherry.build.workspace import new_workspace
from wherry.core.jsonio import loads

MAX_BYTES = 4_000_000
"""Kernel and initramfs of x86 together."""
RENAMING = "--- /dev/null\n+++ b/localversion-tried\n@@ -0,0 +1 @@\n+-tried\n"
EXTRAS = {
    "kernel_patches/name.patch": RENAMING,
    "kernel/extras": "CONFIG_MODULES=y\nCONFIG_MODULE_UNLOAD=y\nCONFIG_DUMMY=m\n",
    "busybox/extras": "CONFIG_INSMOD=y\nCONFIG_LSMOD=y\nCONFIG_UNAME=y\n",
    "resources/source.yaml": "libcap: true\n",
}
"""A layer that asks for what the plain ones have not: a patch, a module, and libcap."""
pytestmark = [pytest.mark.deep, pytest.mark.timeout(5400)]


@dataclass(frozen=True, slots=True)
class Row:
    """One architecture, and how its machine is named elsewhere."""

    layer: str
    architecture: str
    platform: str
    machine: str
    program: str

    @property
    def kind(self) -> str:
        return "uml" if self.layer == "tiny/um" else "qemu"


ROWS = [
    Row("tiny/um", "amd64", "linux/amd64", "x86_64", "sh"),
    Row("tiny/x86_64", "amd64", "linux/amd64", "x86_64", "qemu-system-x86_64"),
    Row("tiny/i386", "i386", "linux/386", "i686", "qemu-system-x86_64"),
    Row("tiny/arm", "armhf", "linux/arm/v7", "armv7l", "qemu-system-arm"),
    Row("tiny/arm64", "arm64", "linux/arm64", "aarch64", "qemu-system-aarch64"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results that all of them share: the sources."""
    return tmp_path_factory.mktemp("cache")


def compiled(folder: Path, cache: Path, target: tuple[str, ...], extra: Path | None = None) -> tuple[Path, Path]:
    """Locks and builds a workspace; returns its root and what boots it."""

    def find(paths: object) -> Layers:
        found = builtin_layers()
        assert found is not None
        return find_layers([found, *([extra] if extra is not None else [])])

    workspace = new_workspace(folder, {"target": target})
    host: Host = load_host(workspace, find, machine="x86_64")
    execution = Execution(cache=cache, work=workspace.work)
    assert make_lock(host, execution).new
    results = execution.take(host.plan(), ["root", "boot"])
    boot = results["boot"].path / "boot"
    report = loads((boot / "kconfig-report.json").read_bytes())
    assert {name: part["untaken"] for name, part in report.items()} == {"kernel": [], "busybox": []}
    return results["root"].path / "root", boot


def run_in_machine(folder: Path, row: Row, root: Path, boot: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a container's root, which is the host's own tree, under the kernel that was compiled."""
    tree = folder / "tree"
    subprocess.run(["cp", "-a", str(root), str(tree)], check=True)
    wherry = [sys.executable, "-m", "wherry", f"--root={folder}/store", f"--run-root={folder}/run"]
    kept = ["kernel", "add", f"--arch={row.architecture}", f"--busybox={tree}/bin/busybox", str(boot / "kernel")]
    subprocess.run([*wherry, *kept, *(["--uml"] if row.kind == "uml" else [])], check=True, capture_output=True)
    run = ["run", "--rm", f"--machine={row.kind}", f"--platform={row.platform}", "--rootfs", str(tree)]
    return subprocess.run(
        [*wherry, *run, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.layer.partition("/")[2])
def test_a_tiny_host_is_compiled_boots_and_runs_a_containers_root(row: Row, cache: Path, tmp_path: Path) -> None:
    if shutil.which(row.program) is None:
        pytest.skip(f"no {row.program}")
    root, boot = compiled(tmp_path / "tiny", cache, (row.layer,))
    sizes = [(boot / name).stat().st_size for name in ("kernel", "initramfs")]
    print(row.layer, *sizes)
    if row.layer == "tiny/x86_64":
        assert sum(sizes) < MAX_BYTES, sizes
        assert_runs(tmp_path, boot)
    done = run_in_machine(tmp_path, row, root, boot, "sh", "-c", "uname -m; id -u; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{row.machine}\n0\n", "err\n")


def test_patches_modules_and_libcap_and_the_same_bytes_twice(tmp_path: Path) -> None:
    layer = tmp_path / "layers/tried/extras"
    for name, text in EXTRAS.items():
        (layer / name).parent.mkdir(parents=True, exist_ok=True)
        (layer / name).write_text(text)
    target = ("tiny/um", "tried/extras")
    made = [
        compiled(top / "tiny", top / "cache", target, tmp_path / "layers") for top in (tmp_path / "a", tmp_path / "bb")
    ]
    (root, boot), (other_root, other_boot) = made
    for name in ("kernel", "initramfs"):
        assert (boot / name).read_bytes() == (other_boot / name).read_bytes(), name
    files = [path.relative_to(root) for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert all((root / path).read_bytes() == (other_root / path).read_bytes() for path in files)
    (module,) = [path for path in files if path.name == "dummy.ko"]
    script = f"uname -r; insmod /{module} && lsmod; capsh --has-p=cap_sys_admin && echo capable"
    done = run_in_machine(tmp_path, ROWS[0], root, boot, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    release, *rest = done.stdout.splitlines()
    assert release.endswith("-tried"), done.stdout
    assert any(line.startswith("dummy ") for line in rest), done.stdout
    assert rest[-1] == "capable"


def assert_runs(tmp_path: Path, boot: Path) -> None:
    """By QEMU and nothing else: as the initramfs says that it is called."""
    root, job = make_tree(tmp_path / "root", "sh id cat", folders="proc sys dev tmp etc"), tmp_path / "job"
    job.mkdir()
    (root / "etc/motd").write_text("a container's own\n")
    (job / "job").write_text(
        "set -- sh -c 'cat motd; id -u; exit 7'\ndirectory=/etc\nuser=1000:1000\nexport PATH=/bin\n"
    )
    args = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-M", "q35", "-accel", "tcg", "-m", "128"]
    args += ["-display", "none", "-no-reboot", "-serial", "stdio"]
    args += ["-kernel", str(boot / "kernel"), "-initrd", str(boot / "initramfs")]
    args += ["-append", "console=ttyS0 quiet wherry.root=9p:root wherry.job=9p:job"]
    for tag, path in (("root", root), ("job", job)):
        args += ["-fsdev", f"local,id={tag},path={path},security_model=none"]
        args += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=True)
    lines = done.stdout.decode(errors="replace").splitlines()
    assert [line for line in lines if line in ("a container's own", "1000")] == ["a container's own", "1000"], lines
    assert "wherry: exit status 7" in lines
    assert (job / "status").read_text() == "7\n"
