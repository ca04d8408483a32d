"""The GVariant codec, every kind of object, and what is read with them."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable

from tests.fuzz.engine import Target

from wherry.core.digest import Checksum
from wherry.core.errors import InvalidInput, WherryError
from wherry.store.config import Config
from wherry.store.disk import content
from wherry.store.format import objects, variant, vtext
from wherry.store.format.objects import Commit, DirMeta, DirTree, FileHeader
from wherry.store.format.variant import Variant
from wherry.store.tree.sizes import read_sizes

_SUM = Checksum("5a" * 32)
_OTHER = Checksum("a5" * 32)
_TYPES = ("a{sv}", "(a(say)a(sayay))", "(uuua(ayay))", "(a{sv}aya(say)sstayay)", "(a(s(taya{sv}))a{sv})", "aay", "v",
          "(yay)", "(a(uuu)aa(ayay)ayay)", "(a{sv}tayay(a{sv}aya(say)sstayay)aya(uayttay)a(yaytt))", "m(sv)", "a{tv}",
          "aas")  # fmt: skip
_HEADER = FileHeader(
    uid=1000, gid=50, mode=stat.S_IFREG | 0o4755, xattrs=((b"security.capability", b"\1\2"), (b"user.a", b"b"))
)
_LINK = FileHeader(uid=0, gid=0, mode=0o120777, symlink_target="../usr/bin")


def _commits() -> list[bytes]:
    metadata = {
        "version": "1.2",
        "ostree.ref-binding": ["os/main", "os/stable"],
        "ostree.bootable": True,
        "n": 5,
        "x": Variant("a{sv}", {"y": Variant("(sv)", ("z", Variant("ay", b"abc")))}),
        "ostree.sizes": Variant("aay", [bytes.fromhex(_SUM) + b"\x80\x01\x05\x01"]),
    }
    return [
        objects.serialize_commit(Commit(tree=_SUM, meta=_OTHER, timestamp_s=0)),
        objects.serialize_commit(
            Commit(
                tree=_SUM, meta=_OTHER, parent=_SUM, timestamp_s=1 << 40, subject="s", body="b" * 300, metadata=metadata
            )
        ),
    ]


def _dirtrees() -> list[bytes]:
    few = DirTree(files=(("a", _SUM), ("b", _OTHER)), dirs=(("c", _SUM, _OTHER), ("ü", _SUM, _SUM)))
    many = DirTree(files=tuple((f"file{number:04}", _SUM) for number in range(1200)))
    return [objects.serialize_dirtree(tree) for tree in (DirTree(), few, many)]


def _dirmetas() -> list[bytes]:
    return [
        objects.serialize_dirmeta(DirMeta()),
        objects.serialize_dirmeta(DirMeta(uid=1, gid=2, xattrs=((b"user.a", b"b" * 300), (b"user.b", b"")))),
    ]


def _archived() -> list[bytes]:
    data = b"some content " * 500
    return [
        objects.archive_head(_HEADER, len(data)) + content.deflate(data, 3),
        objects.archive_head(_HEADER, 0) + content.deflate(b"", 3),
        objects.archive_head(_LINK, 0),
    ]


def _read_commit(data: bytes) -> object:
    commit = objects.parse_commit(data)
    again = objects.serialize_commit(commit)
    assert objects.serialize_commit(objects.parse_commit(again)) == again, "read in two ways"
    return len(list(read_sizes(commit))), len(commit.metadata), commit.parent is None


def _read_archived(data: bytes) -> object:
    class Sink:
        size = 0

        def write(self, piece: bytes, /) -> None:
            self.size += len(piece)

    sink = Sink()
    reader = content.ArchiveReader(lambda *_: sink, where="fuzz")
    for at in range(0, len(data), 1000):
        reader.feed(data[at : at + 1000])
    reader.finish()
    assert reader.header is not None
    return reader.header.is_symlink, len(reader.header.xattrs)


def _read_any(data: bytes) -> object:
    """One byte chooses the type; what is read must come to the same bytes again, and can be printed."""
    kind = _TYPES[data[0] % len(_TYPES)] if data else "v"
    value = variant.decode(kind, data[1:])
    if "{" not in kind and "v" not in kind:
        assert variant.encode(kind, value) == data[1:], "read in two ways"
    vtext.to_text(kind, value)
    vtext.byteswapped(kind, value)
    return kind


def _any_seeds() -> Iterable[bytes]:
    wholes = {"(a{sv}aya(say)sstayay)": _commits(), "(a(say)a(sayay))": _dirtrees(), "(uuua(ayay))": _dirmetas()}
    for number, kind in enumerate(_TYPES):
        yield bytes([number])
        for whole in wholes.get(kind, []):
            yield bytes([number]) + whole
    nested = Variant("s", "x")
    for _ in range(20):
        nested = Variant("v", nested)
    yield bytes([_TYPES.index("v")]) + variant.encode("v", nested)


def _read_type(data: bytes) -> object:
    return variant.is_type(data.decode("latin-1"))


def _read_text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        parse(data.decode(errors="replace"))
        return None

    return read


def _read_config(text: str) -> object:
    config = Config(text, where="fuzz")
    for section in config.sections():
        for key in config.keys(section):
            for get in (config.get_string, config.get_size):
                try:
                    get(section, key)
                except WherryError:
                    continue
            try:
                config.set_string(section, key, "a\n\\b ")
            except InvalidInput:  # a name that is read leniently, and not written
                continue
            assert config.get_string(section, key) == "a\n\\b "
    return None


TARGETS = [
    Target(name="codec-any", seeds=_any_seeds, read=_read_any),
    Target(name="codec-type", seeds=lambda: [kind.encode() for kind in _TYPES], read=_read_type),
    Target(name="codec-commit", seeds=_commits, read=_read_commit),
    Target(name="codec-dirtree", seeds=_dirtrees, read=lambda data: len(objects.parse_dirtree(data).files) > 0),
    Target(name="codec-dirmeta", seeds=_dirmetas, read=lambda data: len(objects.parse_dirmeta(data).xattrs)),
    Target(
        name="codec-file-meta",
        seeds=lambda: [objects.serialize_file_meta(_HEADER), objects.serialize_file_meta(_LINK)],
        read=lambda data: len(objects.parse_file_meta(data)[3]),
    ),
    Target(name="codec-filez", seeds=_archived, read=_read_archived),
    Target(
        name="codec-detached",
        seeds=lambda: [objects.serialize_dict({"ostree.sign.ed25519": [bytes(64)]}), b""],
        read=lambda data: sorted(objects.parse_dict(data)) == [],
    ),
    Target(
        name="codec-config",
        seeds=lambda: [
            b'[core]\nrepo_version=1\nmode=bare\n# x\n\n[remote "o"]\nurl=http://x/\n min-free-space-size=5MB\n'
        ],
        read=_read_text(_read_config),
    ),
]
