"""The file system of a container: from a specification to a mount plan. Pure; `enter` executes it.

The plan holds what the specification lists, in its order, and what every container has: device nodes and links in
/dev. What is made in a /dev of the container's own is made before anybody can see it; a /dev of the host, bound or
devtmpfs, is left as it is.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput
from wherry.core.value import EMPTY, replace
from wherry.linux import usernamespace, x
from wherry.linux.masking import MaskPath, ReadOnlyPath
from wherry.linux.mount import MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE
from wherry.linux.mountplan import Made, MakeDirectory, MakeLink, MakeNode
from wherry.linux.mountsteps import BindMount, NewMount, Remount
from wherry.runtime.cgroupmounts import cgroup_steps
from wherry.runtime.enter import enter, mount_console, open_sources
from wherry.runtime.mountoptions import PROPAGATION, IdMap, Options, id_map, parse_options
from wherry.runtime.spec import Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry.linux.mountplan import Step
    from wherry.runtime.cgroup import Hierarchy
    from wherry.runtime.spec import Mount, Spec

__all__ = ("enter", "mount_console", "mount_step", "open_sources", "plan")

_OF_THE_KERNEL = frozenset(
    (
        *("proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "devtmpfs", "debugfs", "tracefs", "securityfs"),
        *("bpf", "configfs", "fusectl", "pstore", "efivarfs", "binfmt_misc", "hugetlbfs", "selinuxfs"),
    )
)
"""File systems that are refused where a symbolic link is on the way; instances of most share one superblock."""
_KEEPS_READ_ONLY_APART = _OF_THE_KERNEL | {"tmpfs", "ramfs", "overlay"}
"""Of these ``ro`` is the mount's alone; others are told too, so that they do not write to a read-only disk."""
_BIND_INSTEAD = {"sysfs": "/sys", "mqueue": "/dev/mqueue", "proc": "/proc"}
_DEV_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
_DEV_NODES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
_TTY_GROUP = 5
_NODE_KINDS = {"c": "c", "u": "c", "b": "b", "p": "p"}


def plan(spec: Spec, hierarchies: Sequence[Hierarchy], *, cgroup_paths: Mapping[str, str] = EMPTY) -> tuple[Step, ...]:
    """Returns what is mounted and made below the container's root, in order.

    Args:
        spec: the container.
        hierarchies: the control groups that the container is in, for its ``cgroup`` mount.
        cgroup_paths: mount point of a hierarchy -> the container's own group in it. Those are bound where the
            container has no cgroup namespace, which would show them as roots.

    Raises:
        InvalidInput: an option that means nothing, or a path with ``..``; names the mount.
    """
    steps: list[Step] = []
    made = _made_in_dev(spec)
    mounts = [(_destination(item), item) for item in spec.mounts]
    for path, item in mounts:
        if path == "/dev" and item.type == "tmpfs":
            # Places of later mounts are made at once too. Whatever is mounted over this /dev later hides all of it.
            below = [other for other, _ in mounts if other.startswith("/dev/") and other.count("/") == len("ab")]
            taken = {step.target for step in made}
            bound = {other for other, later in mounts if _is_bind(later)}
            made += [MakeDirectory(target=other) for other in dict.fromkeys(below) if other not in taken | bound]
            inside = [step for step in made if step.target.startswith("/dev/")]
            steps.append(_with_contents(mount_step(item, spec), inside))
            made = [step for step in made if not step.target.startswith("/dev/")]
        elif item.type in ("cgroup", "cgroup2"):
            steps += cgroup_steps(path, item, spec, hierarchies, cgroup_paths)
        else:
            steps.append(mount_step(item, spec))
            if path == "/dev":
                made = [step for step in made if not step.target.startswith("/dev/")]
    steps += made
    if spec.process.cwd != "/":
        steps.append(MakeDirectory(target=spec.process.cwd))
    steps += [MaskPath(target=path) for path in spec.masked_paths]
    steps += [ReadOnlyPath(target=path) for path in spec.readonly_paths]
    if spec.root_read_only:
        steps.append(Remount(target="/", attr_set=x.MOUNT_ATTR_RDONLY))
    return tuple(steps)


def _with_contents(step: Step, made: Sequence[Made]) -> Step:
    return replace(step, contents=tuple(made)) if isinstance(step, NewMount) else step


def _made_in_dev(spec: Spec) -> list[Made]:
    """Returns the nodes and links of a /dev, the specification's own among them, and its nodes elsewhere."""
    given = [
        MakeNode(
            target=device.path,
            kind=_NODE_KINDS[device.type],
            major=device.major,
            minor=device.minor,
            mode=device.file_mode,
            uid=device.uid,
            gid=device.gid,
        )
        for device in spec.devices
    ]
    paths = {device.target for device in given}
    nodes = [
        MakeNode(target=path, kind="c", major=major, minor=minor)
        for path, major, minor in _DEV_NODES
        if path not in paths
    ]
    links = [MakeLink(target=path, points_to=to) for path, to in _DEV_LINKS if path not in paths]
    return [*nodes, *given, *links]


def _destination(item: Mount) -> str:
    """Returns the place of a mount as an absolute path; a relative one begins at the root (config.md, "Mounts")."""
    parts = [part for part in item.destination.split("/") if part not in ("", ".")]
    if ".." in parts or not item.destination or "\0" in item.destination:
        raise InvalidInput("the place of a mount is a path without '..'", where=f"mounts: {item.destination}")
    return "/" + "/".join(parts)


def _is_bind(item: Mount) -> bool:
    return item.type == "bind" or "bind" in item.options or "rbind" in item.options


def mount_step(item: Mount, spec: Spec) -> Step:
    """Returns the step of one mount other than ``cgroup``.

    Raises:
        InvalidInput: an option that this kind of mount does not have.
    """
    target = _destination(item)
    where = f"mounts: {target}"
    options = parse_options(item.options)
    bind = options.bind or item.type == "bind"
    none = item.type in ("", "none")
    if options.remount or (none and not bind and options.propagation):
        return _remount(target, options, bind=bind)
    maps = id_map(options, item.uid_mappings, item.gid_mappings, spec.uid_mappings, spec.gid_mappings, where)
    if bind:
        return _bind(target, item, options, spec, maps)
    if none:
        raise InvalidInput("a mount without a type is a bind (`rbind`) or a `remount`", where=where)
    if maps is not None or options.copy_symlink or not options.follow_source or not options.follow_target:
        raise InvalidInput("idmap, copy-symlink and nofollow are for bind mounts", where=where)
    if options.copy_up and item.type != "tmpfs":
        raise InvalidInput("tmpcopyup is for a tmpfs", where=where)
    if options.copy_up:
        import wherry.linux.copyup  # noqa: F401 now, as `enter` runs where nothing can be imported any more
    attributes = options.attr_set | options.all_set
    told = options.superblock
    if attributes & x.MOUNT_ATTR_RDONLY and item.type not in _KEEPS_READ_ONLY_APART:
        told = ("ro", *told)
    return NewMount(
        fstype=item.type,
        target=target,
        source=item.source,
        options=(*told, *_data(item.type, options.data, spec)),
        attributes=attributes,
        iversion=options.iversion,
        propagation=options.propagation,
        ordinary_path=item.type in _OF_THE_KERNEL,
        copy_up=options.copy_up,
        bind_instead=_bind_instead(item.type, spec),
    )


def _data(fstype: str, data: tuple[str, ...], spec: Spec) -> tuple[str, ...]:
    """Returns a file system's options without the group of devpts where the container has no such group."""
    if fstype != "devpts" or spec.namespaces.get(Namespace.USER):
        return data
    if Namespace.USER not in spec.namespaces:
        if not usernamespace.inside():
            return data
        kept = (item for item in data if not item.startswith("gid="))
        return data if usernamespace.has_id("gid", _TTY_GROUP) else tuple(kept)

    def exists(group: str) -> bool:
        return group.isdecimal() and any(
            item.container_id <= int(group) < item.container_id + item.size for item in spec.gid_mappings
        )

    return tuple(item for item in data if not item.startswith("gid=") or exists(item.removeprefix("gid=")))


def _bind_instead(fstype: str, spec: Spec) -> str:
    """Returns what of the host stands for a file system that a user namespace may not mount.

    sysfs needs a network namespace of the same user namespace, mqueue an ipc namespace; proc of the host is given
    only to a container that shares the host's pid namespace, and so sees no more by it than it may.
    """
    if (Namespace.USER not in spec.namespaces and not usernamespace.inside()) or (
        fstype == "proc" and Namespace.PID in spec.namespaces
    ):
        return ""
    return _BIND_INSTEAD.get(fstype, "")


def _remount(target: str, options: Options, *, bind: bool) -> Remount:
    told = () if bind else (*options.superblock, *options.data)
    return Remount(
        target=target,
        attr_set=options.attr_set,
        attr_clr=options.attr_clr,
        all_set=options.all_set,
        all_clr=options.all_clr,
        propagation=options.propagation,
        options=told,
    )


def _bind(target: str, item: Mount, options: Options, spec: Spec, maps: IdMap | None) -> BindMount:
    where = f"mounts: {target}"
    # The kernel ignores data for a file system in a bind mount, and so do other runtimes; a word may be a wrong one.
    words = [word for word in options.data if "=" not in word]
    if words:
        raise InvalidInput(f"a bind mount has no option {words[0]!r}", where=where)
    if options.copy_up:
        raise InvalidInput("tmpcopyup is for a tmpfs", where=where)
    if not item.source.startswith("/"):
        raise InvalidInput("a bind mount needs an absolute source", where=where)
    if maps is not None:
        import wherry.linux.idmap  # noqa: F401 now, as `enter` runs where nothing can be imported any more
    mapped = maps or IdMap(uids=(), gids=())
    return BindMount(
        source=item.source,
        beneath=item.beneath,
        target=target,
        recursive=options.recursive,
        attr_set=options.attr_set,
        attr_clr=options.attr_clr,
        all_set=options.all_set,
        all_clr=options.all_clr,
        propagation=options.propagation or _inherited(spec.rootfs_propagation),
        uids=mapped.uids,
        gids=mapped.gids,
        map_recursive=mapped.recursive,
        follow_source=options.follow_source,
        copy_symlink=options.copy_symlink,
        follow_target=options.follow_target,
    )


def _inherited(rootfs_propagation: str) -> int:
    """Returns how a bind that says nothing takes part in propagation: as the root shall, if that is with the host."""
    flag = PROPAGATION.get(rootfs_propagation or "rprivate", MS_PRIVATE)
    return flag & (MS_SLAVE | MS_SHARED | MS_REC) if flag & (MS_SLAVE | MS_SHARED) else 0
