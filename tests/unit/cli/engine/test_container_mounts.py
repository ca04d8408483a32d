"""Docker's words for mounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.cli import container_mounts as mounts
from wherry.cli.container_secrets import Wanted, parse_secret
from wherry.core.errors import UsageError
from wherry.spec.container import Mount, MountType

CWD = Path("/work/dir")


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/data", Mount(type=MountType.VOLUME, target="/data")),
        ("vol:/data", Mount(type=MountType.VOLUME, source="vol", target="/data")),
        ("/a:/b:ro", Mount(type=MountType.BIND, source="/a", target="/b", read_only=True)),
        ("./a/../c:/b", Mount(type=MountType.BIND, source="/work/dir/c", target="/b")),
        ("/a:/b:rslave,Z", Mount(type=MountType.BIND, source="/a", target="/b", propagation="rslave")),
        ("vol:/b:nocopy,ro", Mount(type=MountType.VOLUME, source="vol", target="/b", read_only=True, no_copy=True)),
        ("vol:/b:O", Mount(type=MountType.VOLUME, source="vol", target="/b", overlaid=True)),
        ("sub/dir:/b:rw", Mount(type=MountType.BIND, source="/work/dir/sub/dir", target="/b")),
    ],
)
def test_volumes(text: str, mount: Mount) -> None:
    assert mounts.parse_volume(text, cwd=CWD) == mount


@pytest.mark.parametrize("text", ["a:b:c:d", ":/b", "a:", "a:/b:q", "/a:/b:U"])
def test_bad_volumes(text: str) -> None:
    with pytest.raises(UsageError):
        mounts.parse_volume(text, cwd=CWD)


def test_mounts() -> None:
    assert mounts.parse_mount("type=bind,src=x,dst=/y,readonly", cwd=CWD) == Mount(
        type=MountType.BIND, source="/work/dir/x", target="/y", read_only=True
    )
    assert mounts.parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700", cwd=CWD) == Mount(
        type=MountType.TMPFS, target="/t", tmpfs_size_bytes=1 << 20, tmpfs_mode=0o700
    )
    assert mounts.parse_mount("source=v,target=/t,readonly=false", cwd=CWD) == Mount(
        type=MountType.VOLUME, source="v", target="/t"
    )
    assert mounts.parse_mount("type=bind,src=/a,dst=/b,bind-propagation=rshared,bind-nonrecursive", cwd=CWD) == Mount(
        type=MountType.BIND, source="/a", target="/b", propagation="rshared", recursive="disabled"
    )
    assert mounts.parse_mount("src=v,dst=/b,volume-nocopy=true", cwd=CWD).no_copy
    assert mounts.parse_mount("src=v,dst=/b,volume-subpath=x/y", cwd=CWD).subpath == "x/y"
    assert mounts.parse_mount("type=bind,src=/a,dst=/b,ro,bind-recursive=writable", cwd=CWD).recursive == "writable"
    for text in (
        "type=bind,target=/x",
        "type=nfs,target=/x",
        "target=/x,colour=red",
        "type=volume",
        "target=/x,tmpfs-size=1m",
        "type=bind,src=/a,dst=/b,volume-nocopy",
        "type=bind,src=/a,dst=/b,bind-recursive=readonly",
        "type=bind,src=/a,dst=/b,bind-propagation=sideways",
        "type=bind,src=/a,dst=/b,volume-subpath=x",
        "src=v,dst=/b,volume-driver=nfs",
        "type=tmpfs,src=/a,dst=/b",
        "src=v,dst=/b,readonly=perhaps",
    ):
        with pytest.raises(UsageError):
            mounts.parse_mount(text, cwd=CWD)


def test_tmpfs() -> None:
    assert mounts.parse_tmpfs("/t") == Mount(type=MountType.TMPFS, target="/t")
    assert mounts.parse_tmpfs("/t:size=1k,mode=1777,ro").tmpfs_mode == 0o1777
    assert mounts.parse_tmpfs("/t:exec,uid=5").tmpfs_options == ("exec", "uid=5")
    for text in ("/t:colour=red", "/t:mode=9"):
        with pytest.raises(UsageError):
            mounts.parse_tmpfs(text)


def test_display(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("")
    found, variables = mounts.x11({"DISPLAY": ":1", "XAUTHORITY": str(key)})
    assert [(item.target, item.read_only) for item in found] == [("/tmp/.X11-unix", True), ("/run/xauthority", True)]
    assert variables == {"DISPLAY": ":1", "XAUTHORITY": "/run/xauthority"}
    assert len(mounts.x11({"DISPLAY": ":1", "HOME": "/nowhere"})[0]) == 1
    with pytest.raises(UsageError, match="DISPLAY"):
        mounts.x11({})


def test_service_manager() -> None:
    found, variables = mounts.notify("/run/systemd/notify", "container")
    assert [item.source for item in found] == ["/run/systemd/notify"]
    assert variables == {"NOTIFY_SOCKET": found[0].target}
    assert mounts.notify("/run/systemd/notify", "ignore") == ((), {})
    assert mounts.notify("", "container") == ((), {})
    for socket, word in (("@abstract", "container"), ("", "conmon"), ("", "x")):
        with pytest.raises(UsageError):
            mounts.notify(socket, word)


@pytest.mark.parametrize("word", ["../../etc/passwd", "Nowhere/City"])
def test_no_such_time_zone(word: str) -> None:
    with pytest.raises(UsageError, match="no time zone"):
        mounts.timezone(word)


def test_secrets() -> None:
    assert parse_secret("a") == Wanted(name="a", target="/run/secrets/a")
    assert parse_secret("source=a,target=b") == Wanted(name="a", target="/run/secrets/b")
    assert parse_secret("a,target=/b,mode=0400,type=mount") == Wanted(name="a", target="/b")
    owned = Wanted(name="a", target="/run/secrets/a", uid=5, gid=6, mode=0o440)
    assert parse_secret("a,uid=5,gid=6,mode=440") == owned
    assert parse_secret("a,type=env") == Wanted(name="a", variable="a")
    assert parse_secret("a,type=env,target=PASSWORD") == Wanted(name="a", variable="PASSWORD")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "source=",
        "a,type=file",
        "a,uid=x",
        "a,uid=-1",
        "a,mode=9",
        "a,type=env,uid=5",
        "a,type=env,target=B=C",
        "a,b",
    ],
)
def test_wrong_secrets(text: str) -> None:
    with pytest.raises(UsageError):
        parse_secret(text)
