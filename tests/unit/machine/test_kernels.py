"""Kernels that are kept: put there as a whole, found by architecture, verified by their digests."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.core.errors import IntegrityError, InvalidInput, NotFound
from wherry.machine.kernels import Kernels, kernel_for
from wherry.spec.architecture import architecture


def put(kernels: Kernels, text: str, *, uml: bool = False) -> None:
    with kernels.new("arm64", uml=uml) as folder:
        (folder / "kernel").write_text(text)
        (folder / "busybox").write_text("b")
        (folder / "modules").mkdir()
        (folder / "modules/01-b.ko").write_text("2")
        (folder / "modules/00-z.ko").write_text("1")
        kernels.put(folder, architecture="arm64", uml=uml, version="6.1", source="test 1")


def test_put_replace_remove(tmp_path: Path) -> None:
    kernels = Kernels(tmp_path)
    assert kernels.list() == []
    put(kernels, "first")
    put(kernels, "second")
    put(kernels, "third", uml=True)
    assert [each.name for each in kernels.list()] == ["arm64", "arm64-uml"]
    found = kernels.get("arm64")
    assert found.kernel.read_text() == "second"
    assert [path.name for path in found.modules] == ["00-z.ko", "01-b.ko"]
    found.verify()
    found.kernel.write_text("other")
    with pytest.raises(IntegrityError):
        found.verify()
    kernels.remove("arm64")
    with pytest.raises(NotFound, match="wherry kernel fetch --arch arm64"):
        kernels.get("arm64")
    assert kernels.get("arm64", uml=True).kernel.read_text() == "third"
    assert sorted(path.name for path in kernels.folder.iterdir()) == [".lock", "arm64-uml"]


def test_what_goes_wrong_leaves_nothing(tmp_path: Path) -> None:
    kernels = Kernels(tmp_path)
    with pytest.raises(InvalidInput), kernels.new("arm64") as folder:
        kernels.put(folder, architecture="arm64", uml=False, version="", source="")
    assert kernels.list() == []
    for name in ("../x", ".lock", "arm64"):
        with pytest.raises(NotFound):
            kernels.remove(name)


def test_a_file_is_a_kernel_with_the_busybox_of_the_one_that_is_kept(tmp_path: Path) -> None:
    kernels = Kernels(tmp_path)
    put(kernels, "kept")
    (tmp_path / "own").write_text("own")
    found = kernel_for(tmp_path, architecture("arm64"), uml=False, file=tmp_path / "own")
    assert (found.kernel, found.busybox, found.modules) == (tmp_path / "own", kernels.folder / "arm64/busybox", ())
    with pytest.raises(NotFound):
        kernel_for(tmp_path, architecture("arm64"), uml=False, file=tmp_path / "missing")
