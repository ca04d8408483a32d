"""The engine's own API, as the device uses it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.integration.engine.support import IMAGE, Cli, commit_of, until

from wherry.core.errors import Conflict, NotFound, Timeout
from wherry.engine.engine import Engine
from wherry.engine.spec import ContainerSpec
from wherry.spec.container import Mount, MountType
from wherry.store.repository import Repository


def test_life_by_commit(engine: Engine, store: Path) -> None:
    commit = commit_of(Repository.open(store))
    info = engine.create(ContainerSpec(image=commit, name="a", args=("sleep", "100"), labels={"x": "1"}))
    assert (info.status, info.commit) == ("created", commit)
    assert engine.start("a") is True
    assert engine.start("a") is False
    assert [found.name for found in engine.list(labels={"x": "1"})] == ["a"]
    assert engine.list(labels={"x": "2"}) == ()
    with pytest.raises(Timeout):
        engine.wait("a", timeout_s=0.2)
    with pytest.raises(Conflict):
        engine.remove("a")
    engine.stop("a", timeout_s=0)
    assert engine.wait("a") == 137
    engine.remove("a")
    with pytest.raises(NotFound):
        engine.inspect("a")


def test_started_from_a_process_with_threads(engine: Engine) -> None:
    """The agent has threads; its containers must not mind."""
    engine.create(ContainerSpec(image=IMAGE, name="a", args=("sleep", "100")))
    thread = threading.Thread(target=lambda: engine.start("a"))
    thread.start()
    thread.join()
    assert engine.inspect("a").status == "running"
    engine.remove("a", force=True)


def test_layers_lie_over_the_image(engine: Engine, tmp_path: Path) -> None:
    for name, text in (("top", "top\n"), ("below", "below\n")):
        (tmp_path / name / "etc").mkdir(parents=True)
        (tmp_path / name / "etc/motd").write_text(text)
    (tmp_path / "below/etc/only").write_text("only\n")
    spec = ContainerSpec(
        image=IMAGE,
        name="a",
        args=("cat", "/etc/motd", "/etc/only"),
        layers=(str(tmp_path / "top"), str(tmp_path / "below")),
    )
    engine.create(spec)
    engine.start("a")
    engine.wait("a")
    assert b"".join(entry.data for entry in engine.logs("a")) == b"top\nonly\n"


def test_images_are_collected(engine: Engine, store: Path) -> None:
    commit = commit_of(Repository.open(store))
    engine.create(ContainerSpec(image=IMAGE, name="a", args=("true",)))
    assert engine.gc_images() == ()
    engine.remove("a")
    assert engine.gc_images([commit]) == ()
    assert engine.gc_images() == (commit,)
    assert list(Path(engine.paths.images).iterdir()) == []


def test_copy_where_composefs_is_refused(engine: Engine, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels without EROFS from a file run from a private copy of the image's files."""
    import errno

    from wherry.core.errors import Unsupported
    from wherry.engine import rootfs

    def refuse(image: Path, target: Path, *, loop: bool | None = False) -> bool:
        raise Unsupported(f"no: {errno.ENODEV}")

    monkeypatch.setattr(rootfs, "mount_image", refuse)
    spec = ContainerSpec(
        image=IMAGE, name="a", args=("sh", "-c", "cat /etc/motd; stat -c %u /data/seed; echo x > /etc/motd")
    )
    info = engine.create(spec)
    engine.start("a")
    assert engine.wait("a") == 0
    assert [entry.data for entry in engine.logs("a")] == [b"from the image\n", b"1000\n"]
    copy = Path(engine.paths.images) / info.commit
    assert (copy / "etc/motd").read_text() == "from the image\n"


def test_volumes(engine: Engine) -> None:
    mount = Mount(type=MountType.VOLUME, source="v", target="/data")
    engine.create(ContainerSpec(image=IMAGE, name="a", args=("true",), mounts=(mount,)))
    engine.start("a")
    engine.wait("a")
    assert engine.list_volumes() == ("v",)
    with pytest.raises(Conflict):
        engine.remove_volume("v")
    engine.remove("a")
    engine.remove_volume("v")
    assert engine.list_volumes() == ()


def test_images_own_health_check_and_volumes(engine: Engine, store: Path, tmp_path: Path) -> None:
    from tests.integration.engine.support import make_tree

    from wherry.image.importing import import_image

    make_tree(tmp_path / "tree")
    changes = (
        "ENV GREETING=hello",
        "USER app",
        "WORKDIR /data",
        "VOLUME /data",
        "STOPSIGNAL SIGINT",
        'ENTRYPOINT ["sh", "-c"]',
        "CMD [\"trap 'exit 3' INT; echo $GREETING; id -u; pwd; while :; do sleep 0.05; done\"]",
    )
    import_image(Repository.open(store), str(tmp_path / "tree"), name="test/full:1", changes=changes)
    engine.create(ContainerSpec(image="test/full:1", name="a"))
    engine.start("a")
    until(lambda: len(list(engine.logs("a"))) == 3)
    assert [entry.data for entry in engine.logs("a")] == [b"hello\n", b"1000\n", b"/data\n"]
    assert len(engine.list_volumes()) == 1
    engine.stop("a")
    assert engine.wait("a") == 3
    engine.remove("a")
    assert engine.list_volumes() == ()
