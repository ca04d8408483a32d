"""Boards boot in QEMU, from the image that is built of their layers, by the firmware that they have, up to the login.

`host/minimal` runs on each: the distribution's kernel, an initramfs that finds the root by what the boot loader hands
it, and busybox. The PC with UEFI is booted by ``tests/e2e/host``. What the console said of a boot that failed is kept
in ``build/boots/``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from wherry.build.debian.options import Options
from wherry.build.debian.sources import sources_for

ROOT = Path(__file__).parents[3]
CACHE = ROOT / "build/cache/hosts"
"""Kept from one run of the suite to the next: packages, and results of steps."""
LOGS = ROOT / "build/boots"
PROGRESS_S = 120
"""How long a guest may say nothing: machines are slow and shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One board."""

    layer: str
    packages: tuple[str, ...]
    """Boot loaders that the boards of this architecture want: named for each, so that one lock fits all of them."""
    says: tuple[str, ...]
    """What only this way of booting says."""


ARM64 = ("systemd-boot-efi",)
ARMHF = ("u-boot-sunxi",)
CASES = (
    Case(layer="virt/qemu-arm64", packages=ARM64, says=("EFI stub: Booting Linux Kernel", "/dev/ttyAMA0")),
    Case(layer="virt/qemu-arm64-uboot", packages=ARM64, says=("U-Boot 20", "extlinux.conf", "/dev/ttyAMA0")),
    Case(layer="pi/3x64", packages=ARM64, says=("Raspberry Pi 3 Model B", "mmcblk0p2", "/dev/ttyS1")),
    Case(layer="virt/qemu-armhf", packages=ARMHF, says=("U-Boot 20", "extlinux.conf", "/dev/ttyAMA0")),
    Case(layer="orangepi/pc", packages=ARMHF, says=("U-Boot SPL 20", "extlinux.conf", "sunxi-mmc", "/dev/ttyS0")),
)


def wherry(*words: str, cwd: Path) -> str:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "src"),
        "HOME": str(cwd),
        "WHERRY_BUILD_CACHE": str(CACHE),
    }
    command = [sys.executable, "-m", "wherry", "--root", str(cwd / "root"), *words]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=cwd,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def mirrors() -> list[str]:
    """Returns the machine's own sources without those of security updates, which not every mirror has whole."""
    lines = []
    for source in sources_for(Options()):
        signed = [f"signed-by={value}" for key, value in source.fields if key == "Signed-By" and "\n" not in value]
        options = f"[{' '.join(signed)}] " if signed else ""
        for suite in (each for each in source.suites if "security" not in each):
            lines += [f"deb {options}{uri} {suite} main" for uri in source.uris]
    return lines


@pytest.fixture(scope="module")
def locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("locks")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.layer) for case in CASES])
def test_it_boots(case: Case, tmp_path: Path, locks: Path) -> None:
    name = case.layer.replace("/", "-")
    wherry("host", "new", name, "--target", f"{case.layer},host/minimal", "--user", "", cwd=tmp_path)
    workspace = tmp_path / name
    with open(workspace / "host.yaml", "a") as file:
        file.write("debian:\n  components: [main]\n")
        file.write(f"  firmware: [{', '.join(case.packages)}]\n  mirrors:\n")
        file.writelines(f"    - {line!r}\n" for line in mirrors())
    lock = locks / "-".join(case.packages)
    if lock.exists():
        shutil.copyfile(lock, workspace / "debian.lock")
    wherry("host", "build", name, cwd=tmp_path)
    shutil.copyfile(workspace / "debian.lock", lock)
    log = LOGS / f"{name}.log"
    LOGS.mkdir(parents=True, exist_ok=True)
    words = ("--until", f"{name} login:", "--timeout", str(PROGRESS_S), "--snapshot", "--no-network")
    wherry("boot", name, *words, "--console-log", str(log), cwd=tmp_path)
    said = log.read_text(errors="replace")
    assert [text for text in case.says if text not in said] == []
    log.unlink()
