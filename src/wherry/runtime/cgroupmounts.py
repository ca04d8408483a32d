"""What a container sees at its ``cgroup`` mount: its own control groups, whatever versions the host has.

With a cgroup namespace the hierarchies are mounted, and the namespace makes the container's own groups look like
roots. Without one its own groups are bound there, so that it sees no other container's.
"""

from __future__ import annotations

from wherry.core.errors import InvalidInput
from wherry.linux import x
from wherry.linux.mountplan import MakeDirectory, MakeLink
from wherry.linux.mountsteps import BindMount, NewMount, Remount
from wherry.runtime.mountoptions import parse_options
from wherry.runtime.spec import Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wherry.linux.mountplan import Made, Step
    from wherry.runtime.cgroup import Hierarchy
    from wherry.runtime.spec import Mount, Spec

_ROOT_OPTIONS = ("mode=755", "size=1m")


def cgroup_steps(
    path: str, item: Mount, spec: Spec, hierarchies: Sequence[Hierarchy], cgroup_paths: Mapping[str, str]
) -> list[Step]:
    """Returns the steps of a mount of type ``cgroup``.

    Args:
        path: where it goes.
        item: the mount; its attributes are given to every hierarchy.
        spec: the container.
        hierarchies: those that the container is in.
        cgroup_paths: mount point of a hierarchy -> the container's own group in it.

    Raises:
        InvalidInput: an option that means nothing here.
    """
    options = parse_options(item.options)
    if options.data:
        raise InvalidInput(f"a mount of control groups has no option {options.data[0]!r}", where=f"mounts: {path}")
    attributes = options.attr_set | options.all_set
    paths = {} if Namespace.CGROUP in spec.namespaces else cgroup_paths
    if [hierarchy.version for hierarchy in hierarchies] == [2] or item.type == "cgroup2":
        found = [hierarchy for hierarchy in hierarchies if hierarchy.version == 2]
        return [_mount(path, hierarchy, attributes, paths) for hierarchy in found]
    contents: list[Made] = []
    steps: list[Step] = []
    for hierarchy in hierarchies:
        name = _name(hierarchy)
        contents.append(MakeDirectory(target=f"{path}/{name}"))
        if "," in name:
            contents += [MakeLink(target=f"{path}/{part}", points_to=name) for part in name.split(",")]
        steps.append(_mount(f"{path}/{name}", hierarchy, attributes, paths))
    root = NewMount(
        fstype="tmpfs",
        target=path,
        source="tmpfs",
        options=_ROOT_OPTIONS,
        attributes=attributes & ~x.MOUNT_ATTR_RDONLY,
        ordinary_path=True,
        contents=tuple(contents),
    )
    last: list[Step] = [Remount(target=path, attr_set=x.MOUNT_ATTR_RDONLY)] if attributes & x.MOUNT_ATTR_RDONLY else []
    return [root, *steps, *last]


def _name(hierarchy: Hierarchy) -> str:
    return "unified" if hierarchy.version == 2 else ",".join(hierarchy.controllers).removeprefix("name=")


def _mount(path: str, hierarchy: Hierarchy, attributes: int, cgroup_paths: Mapping[str, str]) -> Step:
    own = cgroup_paths.get(hierarchy.mount, "")
    if own:
        return BindMount(source=own, target=path, recursive=False, attr_set=attributes)
    if hierarchy.version == 2:
        return NewMount(fstype="cgroup2", target=path, source="cgroup", attributes=attributes, ordinary_path=True)
    options = hierarchy.controllers
    if options[0].startswith("name="):
        options = ("none", *options)
    return NewMount(
        fstype="cgroup", target=path, source="cgroup", options=options, attributes=attributes, ordinary_path=True
    )
