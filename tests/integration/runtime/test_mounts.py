"""Every option of a mount is in force inside: read from mountinfo, and tried where that says nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.runtime.roots import REFUSED, Entered, bind, entered, mount_line, spec_of

from wherry.linux.mount import MNT_DETACH, MS_SHARED, mount, umount
from wherry.runtime.spec import Device, IdMapping, Mount, Process

INFO = "cat /proc/self/mountinfo"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs with a file, and another tmpfs below it."""
    top = tmp_path / "data"
    top.mkdir()
    mount("data", top, "tmpfs")
    (top / "file").write_text("of the host\n")
    (top / "below").mkdir()
    mount("below", top / "below", "tmpfs")
    yield top
    umount(top, MNT_DETACH)


def good(seen: Entered) -> str:
    assert seen.status == 0, seen.out
    return seen.out


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        *(("ro", "ro"), ("nosuid", "nosuid"), ("nodev", "nodev"), ("noexec", "noexec"), ("noatime", "noatime")),
        *(("nodiratime", "nodiratime"), ("nosymfollow", "nosymfollow")),
    ],
)
def test_attributes_of_binds_and_of_new_mounts(rootfs: Path, data: Path, option: str, shown: str) -> None:
    spec = spec_of(
        bind(data, "/one", "rbind", option),
        bind(data, "/all", "rbind", f"r{option}"),
        Mount(destination="/new", type="tmpfs", options=(option,)),
        Mount(destination="/later", type="tmpfs"),
        Mount(destination="/later", type="none", options=("remount", "bind", option)),
        Mount(destination="/plain", type="tmpfs"),
    )
    info = good(entered(rootfs, spec, INFO))
    for place, wanted in (
        *(("/one", True), ("/one/below", False), ("/all", True), ("/all/below", True)),
        *(("/new", True), ("/later", True), ("/plain", False)),
    ):
        assert (shown in mount_line(info, place)[5].split(",")) is wanted, place


@pytest.mark.parametrize(
    ("word", "undone"),
    [
        *(("rw", "ro"), ("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("atime", "noatime")),
        *(("diratime", "nodiratime"), ("symfollow", "nosymfollow"), ("relatime", "noatime")),
        *(("norelatime", "noatime"), ("nostrictatime", "noatime")),
    ],
)
def test_attributes_are_taken_away(rootfs: Path, data: Path, word: str, undone: str) -> None:
    for folder in (data, data / "below"):
        subprocess.run(["mount", "-o", f"remount,bind,{undone}", folder], check=True)
    spec = spec_of(
        bind(data, "/kept", "rbind"), bind(data, "/one", "rbind", word), bind(data, "/all", "rbind", f"r{word}")
    )
    info = good(entered(rootfs, spec, INFO))
    for place, has in (("/kept", True), ("/one", False), ("/one/below", True), ("/all", False), ("/all/below", False)):
        assert (undone in mount_line(info, place)[5].split(",")) is has, place


def test_strictatime(rootfs: Path, data: Path) -> None:
    spec = spec_of(
        bind(data, "/one", "rbind", "strictatime"),
        bind(data, "/all", "rbind", "rstrictatime"),
        Mount(destination="/new", type="tmpfs", options=("strictatime",)),
    )
    info = good(entered(rootfs, spec, INFO))
    for place, relative in (("/one", False), ("/one/below", True), ("/all/below", False), ("/new", False)):
        assert ("relatime" in mount_line(info, place)[5]) is relative, place


def test_options_of_the_file_system(rootfs: Path) -> None:
    spec = spec_of(
        Mount(destination="/a", type="tmpfs", options=("sync", "dirsync", "lazytime", "size=64k", "mode=700")),
        Mount(destination="/b", type="tmpfs", options=("sync", "async", "nomand", "nolazytime", "silent", "loud")),
        Mount(destination="/c", type="tmpfs", options=("iversion", "noexec", "size=8k", "mode=711")),
        Mount(destination="/d", type="tmpfs", options=("size=64k",)),
        Mount(destination="/d", type="tmpfs", options=("remount", "size=128k", "noexec")),
        Mount(destination="/proc", type="proc", options=("hidepid=2",)),
    )
    info = good(entered(rootfs, spec, INFO))
    assert {"sync", "dirsync", "lazytime", "size=64k", "mode=700"} <= set(mount_line(info, "/a")[-1].split(","))
    assert not {"sync", "lazytime"} & set(mount_line(info, "/b")[-1].split(","))
    assert {"size=8k", "mode=711"} <= set(mount_line(info, "/c")[-1].split(","))
    assert "noexec" in mount_line(info, "/c")[5]
    assert "size=128k" in mount_line(info, "/d")[-1]
    assert "noexec" in mount_line(info, "/d")[5]
    assert "hidepid=invisible" in mount_line(info, "/proc")[-1]


def test_an_unknown_option_is_told_by_the_file_system(rootfs: Path) -> None:
    seen = entered(rootfs, spec_of(Mount(destination="/a", type="tmpfs", options=("sizes=1",))))
    assert seen.status == REFUSED
    assert "Unknown parameter 'sizes'" in seen.out


def test_layers_with_long_names_as_a_mount(rootfs: Path, tmp_path: Path) -> None:
    layers = [tmp_path / (letter * 200) for letter in "abc"]
    for layer in layers:
        layer.mkdir()
        (layer / layer.name[0]).touch()
    lower = "lowerdir=" + ":".join(map(str, layers))
    assert good(entered(rootfs, spec_of(Mount(destination="/o", type="overlay", options=(lower, "ro"))), "ls /o")) == (
        "a\nb\nc\n"
    )


@pytest.mark.parametrize(
    ("word", "shared", "master"),
    [
        *(("private", False, False), ("rprivate", False, False), ("slave", False, True), ("rslave", False, True)),
        *(("shared", True, False), ("rshared", True, False), ("unbindable", False, False), ("", False, False)),
    ],
)
def test_propagation_with_the_host(rootfs: Path, data: Path, word: str, shared: bool, master: bool) -> None:
    mount(None, data, None, MS_SHARED)
    (data / "later").mkdir()
    options = ("rbind", word) if word else ("rbind",)
    made_inside = "mkdir /x/made; mount -t tmpfs made /x/made 2>/dev/null; " + INFO
    info = good(entered(rootfs, spec_of(bind(data, "/x", *options)), made_inside))
    fields = mount_line(info, "/x")[6:]
    assert any(field.startswith("shared:") for field in fields) is shared
    assert any(field.startswith("master:") for field in fields) is master
    assert ("unbindable" in fields) is (word == "unbindable")
    assert os.path.ismount(data / "made") is shared  # what is mounted inside comes out only by `shared`


@pytest.mark.parametrize(
    ("word", "root", "below"),
    [
        *(("private", "", ""), ("rprivate", "", ""), ("slave", "", ""), ("rslave", "", "")),
        *(("shared", "shared", ""), ("rshared", "shared", "shared")),
        *(("unbindable", "unbindable", ""), ("runbindable", "unbindable", "unbindable"), ("", "", "")),
    ],
)
def test_the_roots_own_propagation(rootfs: Path, word: str, root: str, below: str) -> None:
    info = good(entered(rootfs, spec_of(rootfs_propagation=word), INFO))
    for place, wanted in (("/", root), ("/proc", below)):
        tags = [field for field in mount_line(info, place)[6:] if field.startswith(("shared:", "unbindable"))]
        assert (tags[0].partition(":")[0] if tags else "") == wanted, place


def test_binds_of_a_shared_root_take_part(rootfs: Path, data: Path) -> None:
    mount(None, data, None, MS_SHARED)
    spec = spec_of(bind(data, "/x"), rootfs_propagation="rshared")
    info = good(entered(rootfs, spec, "mkdir /x/made; mount -t tmpfs made /x/made; " + INFO))
    assert any(field.startswith("shared:") for field in mount_line(info, "/x")[6:])
    assert os.path.ismount(data / "made")
    assert not os.path.ismount(rootfs / "proc")  # the plan itself is never seen on the host


def test_a_root_that_is_a_mount_and_shared(rootfs: Path) -> None:
    mount(rootfs, rootfs, None, 0x1000)
    mount(None, rootfs, None, MS_SHARED)
    try:
        for word in ("", "rshared", "rslave"):
            assert "tmpfs /dev " in good(entered(rootfs, spec_of(rootfs_propagation=word), "cat /proc/mounts"))
            assert not os.path.ismount(rootfs / "dev")
    finally:
        umount(rootfs, MNT_DETACH)


def test_id_mapped_binds_show_other_owners(rootfs: Path, data: Path) -> None:
    for number in (0, 1000, 5000):
        (data / str(number)).touch()
        os.chown(data / str(number), number, number + 1)
    own = (IdMapping(container_id=0, host_id=40000, size=6000),)
    spec = spec_of(
        bind(data, "/plain"),
        bind(data, "/own", "rbind", uid_mappings=own, gid_mappings=own),
        bind(data, "/idmap", "rbind", "idmap=uids=0-1-1#1000-7-1;gids=0-0-65536"),
        bind(data, "/ridmap", "rbind", "ridmap=uids=0-9-1;gids=0-9-1"),
        bind(data, "/container", "rbind", "idmap"),
        uid_mappings=(IdMapping(container_id=0, host_id=300000, size=65536),),
        gid_mappings=(IdMapping(container_id=0, host_id=400000, size=65536),),
    )
    script = "cd /; stat -c %n:%u:%g plain/* own/* idmap/* ridmap/* container/1000; echo x > own/new || true"
    seen = good(entered(rootfs, spec, script)).splitlines()
    for line in (
        *("plain/1000:1000:1001", "own/0:40000:40001", "own/5000:45000:45001", "own/below:0:0"),
        *("idmap/0:1:1", "idmap/1000:7:1001", "idmap/5000:65534:5001", "ridmap/below:9:9"),
        "container/1000:301000:401001",
    ):
        assert line in seen
    assert not (data / "new").exists()  # root has no id in the map of this mount


def test_an_id_mapped_bind_is_written_to_by_the_mapped(rootfs: Path, data: Path) -> None:
    spec = spec_of(bind(data, "/own", "rbind", "idmap=uids=1000-0-1;gids=1000-0-1"))
    os.chown(data, 1000, 1000)
    good(entered(rootfs, spec, "echo x > /own/new"))
    made = (data / "new").stat()
    assert (made.st_uid, made.st_gid) == (1000, 1000)


def test_copy_up(rootfs: Path) -> None:
    etc = rootfs / "srv"
    (etc / "deep/er").mkdir(parents=True)
    (etc / "deep").chmod(0o2750)
    (etc / "file").write_bytes(b"x" * 3_000_000)
    os.chmod(etc / "file", 0o4711)
    os.chown(etc / "file", 12, 34)
    os.chmod(etc / "file", 0o4711)
    os.link(etc / "file", etc / "deep/er/same")
    (etc / "link").symlink_to("/etc/passwd")
    os.lchown(etc / "link", 5, 6)
    os.mkfifo(etc / "fifo", 0o640)
    os.setxattr(etc / "deep", "trusted.mark", b"here")
    os.utime(etc / "deep", (1e9, 1e9))
    etc.chmod(0o711)
    for word in ("rw", "ro"):
        spec = spec_of(Mount(destination="/srv", type="tmpfs", options=("tmpcopyup", "nodev", word)))
        script = (
            "cd /srv; stat -c '%n %a %u %g %h %s' . file deep/er/same deep link fifo; readlink link; stat -c %Y deep"
        )
        seen = good(entered(rootfs, spec, f"{script}; grep ' /srv ' /proc/mounts")).splitlines()
        assert seen[0].startswith(". 711 0 0 ")
        assert seen[1:3] == ["file 4711 12 34 2 3000000", "deep/er/same 4711 12 34 2 3000000"]
        assert seen[3].startswith("deep 2750 0 0 ")
        assert seen[4].startswith("link 777 5 6 ")
        assert seen[5].startswith("fifo 640 0 0 1")
        assert seen[6:8] == ["/etc/passwd", "1000000000"]
        assert seen[8].startswith(f"tmpfs /srv tmpfs {word},nodev")


def test_copy_up_keeps_to_its_limits(rootfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wherry.linux import copyup

    deep = rootfs / "srv" / "/".join("d" * 30)
    deep.mkdir(parents=True)
    spec = spec_of(Mount(destination="/srv", type="tmpfs", options=("tmpcopyup",)))
    for name, limit in (("MAX_DEPTH", 20), ("MAX_ENTRIES", 20)):
        with monkeypatch.context() as changed:
            changed.setattr(copyup, name, limit)
            seen = entered(rootfs, spec)
        assert seen.status == REFUSED
        assert str(limit) in seen.out
    (rootfs / "srv/big").write_bytes(bytes(100_000))
    small = Mount(destination="/srv", type="tmpfs", options=("tmpcopyup", "size=16k"))
    assert "No space left" in entered(rootfs, spec_of(small)).out


def test_links_as_sources_and_as_places(rootfs: Path, data: Path) -> None:
    (data / "link").symlink_to("file")
    (rootfs / "etc/there").symlink_to("passwd")
    spec = spec_of(
        bind(data / "link", "/etc/followed", "bind"),
        bind(data / "link", "/etc/copied", "bind", "copy-symlink"),
        bind(data / "link", "/etc/link", "bind", "src-nofollow"),
        bind(data / "file", "/etc/there", "bind", "dest-nofollow"),
    )
    script = "cat /etc/followed; readlink /etc/copied; readlink /etc/link; cat /etc/passwd /etc/there"
    seen = entered(rootfs, spec, script)
    assert good(seen).startswith("of the host\nfile\nfile\n" + (rootfs / "etc/passwd").read_text())


def test_devices_have_their_mode_and_owner_whatever_the_umask(rootfs: Path) -> None:
    devices = (
        Device(path="/dev/fifo", type="p", file_mode=0o622, uid=3, gid=4),
        Device(path="/dev/own/null", type="c", major=1, minor=3, file_mode=0o777, uid=1, gid=2),
        Device(path="/dev/block", type="b", major=7, minor=0, file_mode=0o660),
        Device(path="/dev/full", type="u", major=1, minor=7, file_mode=0o600),
        Device(path="/srv/null", type="c", major=1, minor=3, file_mode=0o666),
    )
    places = "/dev/fifo /dev/own/null /dev/block /dev/full /dev/null /srv/null"
    script = f"stat -c '%n %F %a %u:%g %t:%T' {places}; readlink /dev/ptmx"
    old = os.umask(0o077)
    try:
        seen = good(entered(rootfs, spec_of(devices=devices), script)).splitlines()
    finally:
        os.umask(old)
    assert seen == [
        "/dev/fifo fifo 622 3:4 0:0",
        "/dev/own/null character special file 777 1:2 1:3",
        "/dev/block block special file 660 0:0 7:0",
        "/dev/full character special file 600 0:0 1:7",
        "/dev/null character special file 666 0:0 1:3",
        "/srv/null character special file 666 0:0 1:3",
        "pts/ptmx",
    ]


def test_the_hosts_dev_is_left_alone(rootfs: Path, tmp_path: Path) -> None:
    host_dev = tmp_path / "host-dev"
    host_dev.mkdir()
    device = Device(path="/dev/own", type="c", major=1, minor=3)
    good(entered(rootfs, spec_of(bind(host_dev, "/dev"), defaults=False, devices=(device,))))
    assert list(host_dev.iterdir()) == []


def test_a_plain_file_in_the_place_of_a_node(rootfs: Path) -> None:
    (rootfs / "dev/null").write_text("")
    seen = good(
        entered(rootfs, spec_of(Mount(destination="/proc", type="proc"), defaults=False), "stat -c %F /dev/null")
    )
    assert seen == "character special file\n"
    assert (rootfs / "dev/null").is_file()


@pytest.mark.parametrize("namespace", [True, False])
@pytest.mark.parametrize("word", ["ro", "rw"])
def test_control_groups(rootfs: Path, namespace: bool, word: str) -> None:
    from wherry.runtime.cgroup import hierarchies

    mine = Mount(destination="/sys/fs/cgroup", type="cgroup", options=(word, "nosuid"))
    sys = Mount(destination="/sys", type="sysfs", options=("ro",))
    proc = Mount(destination="/proc", type="proc")
    spec = spec_of(sys, mine, proc, defaults=False)
    paths = {}
    made = []
    if not namespace:
        from wherry.core.value import replace

        spec = replace(spec, namespaces={"mount": ""})
        for item in hierarchies():
            group = Path(item.mount) / f"wherry-mounts-{os.getpid()}"
            group.mkdir()
            made.append(group)
            paths[item.mount] = str(group)
    try:
        info = good(entered(rootfs, spec, INFO, cgroup_paths=paths))
    finally:
        for group in made:
            group.rmdir()
    for item in hierarchies():
        if "memory" in item.controllers or item.version == 2:
            name = "unified" if item.version == 2 else ",".join(item.controllers)
            place = "/sys/fs/cgroup" if [item.version] == [2] and len(hierarchies()) == 1 else f"/sys/fs/cgroup/{name}"
            fields = mount_line(info, place)
            assert word in fields[5].split(",")
            if not namespace:
                assert fields[3].endswith(f"wherry-mounts-{os.getpid()}")


def test_the_working_directory_is_made(rootfs: Path) -> None:
    spec = spec_of(process=Process(args=("sh",), cwd="/srv/new/place"))
    assert good(entered(rootfs, spec, "stat -c %a /srv/new/place")) == "755\n"


def test_a_root_without_pivot_leaves_nothing_of_the_host(rootfs: Path) -> None:
    look = "cut -d' ' -f5 /proc/self/mountinfo | sort -u | head -3; cd ..; cd ..; ls -d /work /tmp/fs 2>&1; pwd; "
    seen = good(entered(rootfs, spec_of(), look + "mkdir -p /tmp/j; chroot /tmp/j /bin/true; ls /", pivot=False))
    assert "bin" in seen
    assert str(rootfs) not in seen


def test_a_root_made_a_moment_ago_and_known_by_a_descriptor(rootfs: Path, tmp_path: Path) -> None:
    from wherry.linux import x

    for folder in ("upper", "work", "place"):
        (tmp_path / folder).mkdir()

    def mounted() -> str:
        mount(
            "box",
            tmp_path / "place",
            "overlay",
            0,
            f"lowerdir={rootfs},upperdir={tmp_path}/upper,workdir={tmp_path}/work",
        )
        return str(tmp_path / "place")

    def nowhere() -> int:
        from wherry.linux import layers

        lower, upper, work = (os.open(folder, os.O_PATH) for folder in (rootfs, tmp_path / "upper", tmp_path / "work"))
        return layers.overlay([lower], upper=upper, work=work, source="box")

    def copied() -> int:
        return x.open_tree(str(rootfs))

    for before in (mounted, nowhere, copied):
        seen = good(entered(rootfs, spec_of(), "echo hello > /srv2; cat /srv2; " + INFO, before=before))
        assert seen.startswith("hello")
        assert len([line for line in seen.splitlines() if " / / " in line]) <= 1
        assert (tmp_path / "upper/srv2").exists() or before is copied
        assert not os.path.ismount(tmp_path / "place")
