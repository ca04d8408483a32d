"""The hosts that are built, by Wherry and by its peers: folders of their own, and the command lines that are timed.

Both hosts are for QEMU's PC: ``minimal`` is busybox alone, unpacked without running anything (of the kernel's modules
those of its initramfs), ``base`` is systemd, installed with its packages' scripts, and all modules. Their layers say
the rest; the peers get the same packages, overlays, modules and partitions.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.build import mirror as repository
from benchmarks.build import plain

from wherry.build.builtin import builtin_layers
from wherry.core.errors import ToolError
from wherry.core.proc import run

WHERRY = Path(sys.executable).with_name("wherry")
PACKAGES = {"minimal": repository.MINIMAL, "base": repository.BASE}
VARIANTS = {"minimal": "extract", "base": "essential"}
_OVERLAY = "root_overlay/etc/motd"
_SKELETON = "skeleton"


@dataclass(kw_only=True)
class Host:
    """One host, in a folder of its own, with everything that is needed to build it brought there already.

    Args:
        kind: ``minimal`` or ``base``.
        scratch: the folder.
    """

    kind: str
    scratch: Path
    mirror: Path = field(default_factory=repository.mirror)

    def __post_init__(self) -> None:
        self.top = self.scratch / self.kind
        self.workspace, self.cache = self.top / "host", self.top / "cache"
        self.plain, self.mkosi = self.top / "plain", self.top / "mkosi"
        for folder in (self.top, self.plain, self.mkosi):
            folder.mkdir(parents=True)
        self._changes = 0
        self._begin()
        self._plan()

    def wherry(self, *words: str) -> list[str]:
        """Returns a command of ``wherry host``, with its state in this folder."""
        root, runtime = self.top / "state", self.top / "run"
        return [str(WHERRY), "--root", str(root), "--run-root", str(runtime), "--quiet", "host", *words]

    @property
    def build(self) -> list[str]:
        """The build, for which nothing may be fetched."""
        return self.wherry("build", "--offline", "--cache", str(self.cache), str(self.workspace))

    @property
    def chain(self) -> list[str]:
        """The tools, one after the other."""
        return [sys.executable, "-I", "-S", plain.__file__, str(self.plain), "all"]

    @property
    def chain_images(self) -> list[str]:
        """The tools that make the images, over the root that is there."""
        return [*self.chain[:-1], "images"]

    def mkosi_of(self, form: str, *words: str) -> list[str]:
        """Returns mkosi's command for a form of image.

        Its ``--nspawn-keep-unit`` is for machines whose first process is not systemd.
        """
        packages = [name for names in (self.packages, ("linux-image-amd64",)) for name in names]
        return [
            *(
                "mkosi",
                "--distribution=debian",
                f"--release={repository.SUITE}",
                f"--local-mirror=file://{self.mirror}",
            ),
            *(
                "--repository-key-check=no",
                f"--skeleton-tree={self.mkosi / _SKELETON}",
                f"--package={','.join(packages)}",
            ),
            *(f"--extra-tree={tree}" for tree in self._overlays()),
            *(f"--format={form}", f"--output-dir={self.mkosi}", f"--workspace-dir={self.mkosi}"),
            *("--nspawn-keep-unit", "--force", *words, "build"),
        ]

    @property
    def packages(self) -> Sequence[str]:
        """Those of its layer."""
        return PACKAGES[self.kind]

    def forget(self, name: str) -> None:
        """Takes away what one of them has built; the downloads stay.

        Args:
            name: ``wherry``, ``tools`` or ``mkosi``.
        """
        if name == "wherry":
            for path in (self.cache / "results", self.workspace / ".wherry", self.workspace / "output"):
                shutil.rmtree(path, ignore_errors=True)
        elif name == "tools":
            for path in (self.plain / each for each in plain.FOLDERS):
                shutil.rmtree(path, ignore_errors=True)
        else:
            for path in self.mkosi.iterdir():
                if path.is_dir() and path.name != _SKELETON:
                    shutil.rmtree(path)
                elif path.is_file():
                    path.unlink()
        os.sync()

    def change(self) -> None:
        """Changes one file of an overlay."""
        self._changes += 1
        path = self.workspace / "overrides" / _OVERLAY
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Welcome aboard {self._changes}.\n")

    def _overlays(self) -> list[Path]:
        layers = builtin_layers()
        if layers is None:
            raise ToolError("Wherry's own layers are not here")
        return [layers / "host" / self.kind / "root_overlay", self.workspace / "overrides/root_overlay"]

    def _begin(self) -> None:
        """Makes the workspace, pins its packages from the mirror and builds it once, so that all is downloaded."""
        run(self.wherry("new", str(self.workspace), "--target", f"virt/qemu,host/{self.kind}", "--user", ""))
        self.change()
        with repository.serving(self.mirror) as line:
            with open(self.workspace / "host.yaml", "a") as file:
                file.write(f"debian:\n  mirrors: ['{line}']\n")
            run(self.wherry("lock", "--cache", str(self.cache), str(self.workspace)))
            run(self.wherry("build", "--cache", str(self.cache), str(self.workspace)))
        skeleton = self.mkosi / _SKELETON / "etc/apt"
        skeleton.mkdir(parents=True)
        (skeleton / "sources.list").write_text(f"{repository.line('file', self.mirror)}\n")

    def _plan(self) -> None:
        """Writes what the chain of tools does, with the initramfs that Wherry has made as the model of its own."""
        pool = self.mirror / "pool"
        model = self.top / "model"
        model.mkdir()
        archive = self.top / "model.cpio"
        run(["zstd", "-q", "-d", str(self.workspace / "output/boot/initramfs"), "-o", str(archive)])
        run(["cpio", "--quiet", "-i", "-d", "-F", str(archive)], cwd=model)
        modules = next((model / "lib/modules").iterdir())
        record = json.loads((self.workspace / "output/host.json").read_bytes())
        plan = {
            "suite": repository.SUITE,
            "line": repository.line("copy", self.mirror),
            "variant": VARIANTS[self.kind],
            "packages": ",".join((*self.packages, *(("apt",) if self.kind == "base" else ()))),
            "kernel": str(next(pool.glob("linux-image-[0-9]*.deb"))),
            "boot_loader": str(next(pool.glob("systemd-boot-efi_*.deb"))),
            "init": str(model / "init"),
            "busybox": str(model / "bin/busybox"),
            "applets": " ".join(path.name for path in (model / "bin").iterdir() if path.is_symlink()),
            "modules": " ".join(str(path.relative_to(modules)) for path in modules.rglob("*.ko*")),
            "overlays": [str(path) for path in self._overlays()],
            "command_line": " ".join(record["boot"]["command_line"]),
        }
        (self.plain / "plan.json").write_text(json.dumps(plan, indent=2))
