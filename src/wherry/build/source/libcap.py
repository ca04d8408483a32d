"""The step ``libcap``: capsh, getcap and setcap, each a static program, stripped."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from wherry.build.source.unpacking import TREE

if TYPE_CHECKING:
    from wherry.build.source.tools import Target
    from wherry.build.steps import Place

STEP, SOURCE_STEP = "libcap", "libcap-source"
PROGRAMS = ("capsh", "getcap", "setcap")


def compile_libcap(place: Place, target: Target) -> None:
    """Fills the step ``libcap``.

    Raises:
        ToolError: it does not compile.
    """
    tree = place.scratch / TREE
    place.run(["cp", "-a", f"{place.inputs[SOURCE_STEP] / TREE}/.", str(tree)])
    make = [
        "make",
        f"CC={target.cross}gcc",
        f"AR={target.cross}ar",
        f"RANLIB={target.cross}ranlib",
        f"OBJCOPY={target.cross}objcopy",
        f"COPTS=-Os -ffile-prefix-map={tree}/=",
        "BUILD_CC=gcc",
        "SHARED=no",
        "DYNAMIC=no",
        "PTHREADS=no",
        "GOLANG=no",
        "PAM_CAP=no",
        "LDFLAGS=-static",
        "lib=lib",
    ]
    place.run([*make, "-C", "libcap", "libcap.a"], cwd=tree)
    place.run([*make, "-C", "progs", *PROGRAMS], cwd=tree)
    for name in PROGRAMS:
        place.run([f"{target.cross}strip", "--strip-all", str(tree / "progs" / name)], cwd=tree)
        shutil.copyfile(tree / "progs" / name, place.output / name)
        (place.output / name).chmod(0o755)
