"""Any tree as a layer: Python's tarfile and our own importer read the same tree from it, from any offset on."""

from __future__ import annotations

import hashlib
import io
import stat
import tarfile
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wherry.image import layertar
from wherry.image.importing import import_image
from wherry.image.layers import Flattener
from wherry.image.layertar import LayerTar
from wherry.store.format.objects import DirMeta, FileHeader, Mode
from wherry.store.repository import Repository
from wherry.store.tree.mutable import TreeBuilder
from wherry.store.tree.tar import DEFAULT_LIMITS, TarReader

Tree = dict[str, "Tree | tuple[FileHeader, bytes]"]

names = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12),
    st.sampled_from(["n" * 99, "n" * 100, "n" * 101, "ü" * 60, "x" * 255, ".wha", " ", "a=b", "\n"]),
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh.") and len(name.encode()) <= 255)
ids = st.one_of(st.integers(0, 70_000), st.sampled_from([2_097_151, 2_097_152, 0xFFFFFFFE]))
xattrs = st.dictionaries(
    st.sampled_from([b"user.a", b"user.b.c", b"security.capability", b"trusted.x"]), st.binary(min_size=1, max_size=40)
).map(lambda found: tuple(sorted(found.items())))
contents = st.one_of(st.binary(max_size=40), st.sampled_from([511, 512, 513, 5000]).map(lambda size: b"z" * size))
files = st.builds(
    lambda uid, gid, mode, attributes, content: (
        FileHeader(uid=uid, gid=gid, mode=stat.S_IFREG | mode, xattrs=attributes),
        content,
    ),
    ids,
    ids,
    st.integers(0, 0o7777),
    xattrs,
    contents,
)
targets = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=150)
links = st.builds(
    lambda uid, target: (FileHeader(uid=uid, gid=0, mode=stat.S_IFLNK | 0o777, symlink_target=target), b""),
    ids,
    targets.filter(lambda target: len(target.encode()) < 4000),
)
trees = st.recursive(
    st.dictionaries(names, st.one_of(files, links), max_size=4),
    lambda inner: st.dictionaries(names, st.one_of(files, links, inner), max_size=4),
    max_leaves=12,
)
metas = st.builds(
    lambda uid, mode, attributes: DirMeta(uid=uid, gid=0, mode=stat.S_IFDIR | mode, xattrs=attributes),
    ids,
    st.integers(0, 0o7777),
    xattrs,
)


def fill(builder: TreeBuilder, tree: Tree, prefix: str, meta: DirMeta) -> None:
    builder.mkdir(prefix.rstrip("/"), meta)
    for name, found in tree.items():
        if isinstance(found, dict):
            fill(builder, found, f"{prefix}{name}/", meta)
        else:
            header, content = found
            builder.add_file(prefix + name, header, content if stat.S_ISREG(header.mode) else None)


def paths(tree: Tree, prefix: str = "") -> dict[str, tuple[FileHeader, bytes] | None]:
    found: dict[str, tuple[FileHeader, bytes] | None] = {}
    for name, inner in tree.items():
        if isinstance(inner, dict):
            found[prefix + name] = None
            found.update(paths(inner, f"{prefix}{name}/"))
        else:
            found[prefix + name] = inner
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(trees, metas, st.integers(0, 2**33), st.data())
def test_there_and_back(tree: Tree, meta: DirMeta, time_s: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        repo = Repository.init(Path(folder) / "repo", Mode.BARE_USER)
        repo.config.set("core", "fsync", "false")
        repo.save_config()
        with repo.transaction():
            builder = TreeBuilder(repo)
            fill(builder, tree, "", meta)
            root, root_meta = builder.write()
        layer = LayerTar(repo=repo, tree=root, meta=root_meta, time_s=time_s)
        whole = layer.open().read()
        found = layer.measure()
        assert (found.size, found.digest) == (len(whole), "sha256:" + hashlib.sha256(whole).hexdigest())
        offset = data.draw(st.integers(0, len(whole)))
        assert layer.open(offset, found.marks).read() == whole[offset:]

        wanted = paths(tree)
        with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
            members = {member.name: member for member in archive.getmembers()[1:]}
            assert members.keys() == wanted.keys()
            for path, entry in wanted.items():
                member = members[path]
                assert member.mtime == time_s
                if entry is None:
                    assert member.isdir()
                    assert (member.uid, member.mode) == (meta.uid, stat.S_IMODE(meta.mode))
                elif entry[0].is_symlink:
                    assert (member.issym(), member.linkname) == (True, entry[0].symlink_target)
                else:
                    header, content = entry
                    assert (member.uid, member.gid, member.mode) == (header.uid, header.gid, header.mode & 0o7777)
                    opened = archive.extractfile(member)
                    assert opened is not None
                    assert opened.read() == content

        (Path(folder) / "root.tar").write_bytes(whole)
        record = import_image(repo, f"tar:{folder}/root.tar", name="a:1")
        commit = repo.load_commit(record.commit)
        assert (commit.tree, commit.meta) == (root, root_meta)


def changed(tree: Tree, data: st.DataObject, depth: int = 0) -> Tree:
    """Returns a tree with some entries gone, some replaced, some changed inside, and some new ones."""
    found: Tree = {}
    for name, inner in tree.items():
        what = data.draw(st.sampled_from(["keep", "keep", "go", "other", "inside"]))
        if what == "keep":
            found[name] = inner
        elif what == "other":
            found[name] = data.draw(st.one_of(files, links, trees))
        elif what == "inside":
            found[name] = changed(inner, data, depth + 1) if isinstance(inner, dict) else data.draw(files)
    new = data.draw(st.dictionaries(names, st.one_of(files, links, trees), max_size=2))
    return {**new, **found}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(trees, metas, metas, st.data())
def test_what_makes_one_tree_of_another(tree: Tree, meta: DirMeta, other_meta: DirMeta, data: st.DataObject) -> None:
    after = changed(tree, data)
    with tempfile.TemporaryDirectory() as folder:
        repo = Repository.init(Path(folder) / "repo", Mode.BARE_USER)
        repo.config.set("core", "fsync", "false")
        repo.save_config()
        with repo.transaction():
            roots = []
            for one, its_meta in ((tree, meta), (after, data.draw(st.sampled_from([meta, other_meta])))):
                builder = TreeBuilder(repo)
                fill(builder, one, "", its_meta)
                roots.append(layertar.Tree(*builder.write()))
            below, above = roots
            layer = LayerTar(repo=repo, tree=above.tree, meta=above.meta, time_s=0, below=below)
            whole = layer.open().read()
            found = layer.measure()
            assert (found.size, found.digest) == (len(whole), "sha256:" + hashlib.sha256(whole).hexdigest())
            offset = data.draw(st.integers(0, len(whole)))
            assert layer.open(offset, found.marks).read() == whole[offset:]

            flat = Flattener(repo=repo, tree=TreeBuilder(repo), note=lambda text: None)
            flat.tree.overlay_tree(*below)
            flat.apply(TarReader(io.BytesIO(whole), where="layer", limits=DEFAULT_LIMITS), where="layer")
            assert flat.tree.write() == above
            if below == above:
                assert len(whole) == 1024, "nothing but the end of an archive"
