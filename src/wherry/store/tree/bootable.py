"""What a commit says of the kernel in it: ``ostree.bootable`` and ``ostree.linux``."""

from __future__ import annotations

from wherry.core.errors import Conflict, NotFound
from wherry.store.format.objects import DirMeta
from wherry.store.tree.mutable import TreeBuilder

MODULES = "usr/lib/modules"
_KERNEL = "vmlinuz"


def bootable_metadata(tree: TreeBuilder) -> dict[str, object]:
    """Returns the metadata of a tree that holds one kernel, ``usr/lib/modules/VERSION/vmlinuz``.

    Raises:
        NotFound: there is none.
        Conflict: there are several.
    """
    if not isinstance(tree.lookup(MODULES), DirMeta):
        raise NotFound(f"Opening {MODULES}: No such file or directory", hint="a kernel lies in VERSION/vmlinuz there")
    found = [name for name in tree.listdir(MODULES) if isinstance(tree.lookup(f"{MODULES}/{name}/{_KERNEL}"), str)]
    if not found:
        raise NotFound(f"No kernel found in /{MODULES}", hint="it is VERSION/vmlinuz there")
    if len(found) > 1:
        raise Conflict(f"Multiple kernels found in /{MODULES}", where=", ".join(found))
    return {"ostree.bootable": True, "ostree.linux": found[0]}
