"""Trees in composefs' own terms: as the text that ``mkcomposefs --from-file`` reads, and as Wherry's image."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field

from wherry.store.mount import overlay_tree
from wherry.store.mount.erofs import Inode, Link, build
from wherry.store.mount.erofs_xattrs import Xattr


@dataclass(kw_only=True)
class Node:
    """A file of any type, before composefs' conventions are laid over it."""

    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    content: bytes = b""
    target: bytes = b""
    rdev: int = 0
    links: int = 1
    mtime: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    payload: bytes = b""
    """Where the content is, below the data layer."""
    digest: bytes = b""
    hard_link: bytes = b""
    """The path of the file that this is a further name of."""
    children: dict[bytes, Node] = field(default_factory=dict)


def directory(children: dict[bytes, Node], **rest: object) -> Node:
    return Node(**{"mode": stat.S_IFDIR | 0o755, "children": children} | rest)  # type: ignore[arg-type]


def regular(**rest: object) -> Node:
    return Node(**{"mode": stat.S_IFREG | 0o644} | rest)  # type: ignore[arg-type]


def _escape(data: bytes, also: bytes = b"") -> bytes:
    special = b"\\ =" + also
    return b"".join(
        bytes((byte,)) if 0x20 < byte < 0x7F and byte not in special else b"\\x%02x" % byte for byte in data
    )


def _optional(data: bytes) -> bytes:
    if data == b"-":
        return b"\\x2d"
    return _escape(data) if data else b"-"


def to_dump(root: Node) -> bytes:
    """Returns the tree in the dump format (composefs-dump(5))."""
    lines: list[bytes] = []
    todo = [(b"/", root)]
    while todo:
        path, node = todo.pop()
        mode = b"@" * bool(node.hard_link) + b"%o" % node.mode
        payload = node.hard_link or node.target or node.payload
        fields = [
            _escape(path),
            b"%d" % (len(node.target) if node.target else node.size),
            mode,
            b"%d %d %d %d" % (node.links, node.uid, node.gid, node.rdev),
            b"%d.%d" % node.mtime,
            _optional(payload),
            _optional(node.content),
            node.digest.hex().encode() or b"-",
            *(_escape(name) + b"=" + _escape(value) for name, value in node.xattrs.items()),
        ]
        lines.append(b" ".join(fields) + b"\n")
        todo += [(path.rstrip(b"/") + b"/" + name, child) for name, child in node.children.items()]
    return b"".join(lines)


def to_image(root: Node) -> bytes:
    """Returns the tree as Wherry writes it."""
    made: dict[bytes, Inode] = {}
    links: list[tuple[dict[bytes, Inode | Link], bytes, bytes]] = []
    whiteouts: list[bytes] = []
    made_root = _convert(b"/", root, made, links, whiteouts)
    for children, name, target in links:
        children[name] = Link(made[target])
    return bytes(build(overlay_tree.top(made_root), version=1 if whiteouts else 0))


def _convert(
    path: bytes,
    node: Node,
    made: dict[bytes, Inode],
    links: list[tuple[dict[bytes, Inode | Link], bytes, bytes]],
    whiteouts: list[bytes],
) -> Inode:
    xattrs: tuple[Xattr, ...] = tuple(sorted(node.xattrs.items()))
    plain = Inode(
        mode=node.mode,
        uid=node.uid,
        gid=node.gid,
        size=node.size if stat.S_ISREG(node.mode) else 0,
        content=node.content,
        target=node.target,
        rdev=node.rdev,
        links=node.links,
        mtime_s=node.mtime[0],
        mtime_ns=node.mtime[1],
        xattrs=xattrs,
    )
    values = {name: getattr(plain, name) for name in Inode.__dataclass_fields__}
    if stat.S_ISDIR(node.mode):
        children: dict[bytes, Inode | Link] = {}
        for name, child in node.children.items():
            below = path.rstrip(b"/") + b"/" + name
            if child.hard_link:
                links.append((children, name, child.hard_link))
            else:
                children[name] = _convert(below, child, made, links, whiteouts)
        marked = any(
            overlay_tree.is_whiteout(child.mode, child.rdev) and not child.hard_link for child in node.children.values()
        )
        made[path] = overlay_tree.directory(Inode(**values | {"children": children}), has_whiteouts=marked)
    elif overlay_tree.is_whiteout(node.mode, node.rdev):
        whiteouts.append(path)
        made[path] = overlay_tree.whiteout(plain)
    elif plain.size and not node.content:
        made[path] = Inode(**values | {"xattrs": overlay_tree.with_redirect(xattrs, node.payload, node.digest)})
    else:
        made[path] = Inode(**values | {"xattrs": overlay_tree.escape(xattrs)})
    return made[path]
