"""``--volumes-from``: the mounts of other containers, taken over when a container is made."""

from __future__ import annotations

from wherry.core.errors import UsageError
from wherry.core.value import replace
from wherry.engine import state
from wherry.engine.spec import normal_path
from wherry.spec.container import MountType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from wherry.engine.spec import ContainerSpec
    from wherry.engine.state import Paths
    from wherry.spec.container import Mount


def with_volumes_from(paths: Paths, spec: ContainerSpec, words: Iterable[str]) -> ContainerSpec:
    """Returns a request with the binds and volumes of other containers; its own win where both want one place.

    Args:
        paths: of the engine root.
        spec: the request.
        words: ``CONTAINER``, ``CONTAINER:ro`` or ``CONTAINER:rw``.

    Raises:
        NotFound: there is no such container.
        UsageError: another word stands after the colon.
    """
    found: dict[str, Mount] = {}
    for word in words:
        name, _, mode = word.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise UsageError(f"--volumes-from: {word!r}", hint="write it as NAME or NAME:ro")
        for item in state.read_config(paths, state.find(paths, name)).mounts:
            if item.type != MountType.TMPFS:
                found[normal_path(item.target)] = replace(item, read_only=True) if mode == "ro" else item
    own = {normal_path(item.target) for item in spec.mounts}
    return replace(spec, mounts=(*spec.mounts, *(item for target, item in found.items() if target not in own)))
