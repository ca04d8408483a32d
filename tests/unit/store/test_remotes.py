"""What a remote says of itself: mirrors, metalinks, cookies, whose signatures count; and which delta is taken."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.store.conftest import commit_files

from wherry.core.digest import Checksum, Ref
from wherry.core.errors import Conflict, IntegrityError, InvalidInput, NotFound, TrustError, Unsupported
from wherry.core.transfer import SETTINGS
from wherry.store.disk.receive import check_safe_mode
from wherry.store.format.objects import FileHeader
from wherry.store.format.variant import Variant
from wherry.store.pull.cookies import add_cookie, delete_cookie, read_cookies
from wherry.store.pull.delta_choice import Choice, choose_delta
from wherry.store.pull.metalink import MAX_DEPTH, parse_metalink
from wherry.store.pull.remote import Remote, add_remote, cookie_path, delete_remote, find_remote, list_remotes
from wherry.store.pull.trust import remote_trust
from wherry.store.pull.web import local_path, parse_mirrorlist, transfer_settings
from wherry.store.repository import Repository
from wherry.store.summary import METADATA_REF, build_summary, parse_summary, update_metadata_ref, update_summary

A, B, C = (Checksum(letter * 64) for letter in "abc")
DATA = b"the summary"
FILE = """<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/"><files><file name="summary">
  <size>{size}</size>
  <verification><hash type="md5">0</hash><hash type="sha256">{sha256}</hash></verification>
  <resources><url protocol="http" preference="1">http://b/summary</url>
             <url protocol="http" preference="9">http://a/summary</url>
             <url protocol="ftp">ftp://c/summary</url></resources>
</file></files></metalink>"""


def link(**values: object) -> bytes:
    return FILE.format(**{"size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest(), **values}).encode()


# --- metalinks


def test_metalink() -> None:
    found = parse_metalink(link(), "summary")
    assert found.sorted_urls() == ["http://a/summary", "http://b/summary"]
    found.check(DATA, where="x")
    with pytest.raises(IntegrityError, match="Expected size is 11 bytes but content is 1 bytes"):
        found.check(b"x", where="x")
    with pytest.raises(IntegrityError, match=r"Expected checksum is .* but actual is"):
        found.check(b"x" * len(DATA), where="x")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Document must begin"),
        (b"bacon", "Document must begin"),
        (b"<a/>", "its first element is <a>"),
        (link()[:-5], "malformed"),
        (b"<metalink/>", "No <file name='summary'>"),
        (link(sha256="bacon"), "Invalid hash digest for sha256"),
        (link(size="-1"), "not a size"),
        (link(size="9" * 30), "not a size"),
        (link().replace(b"sha256", b"md4"), "No <verification> element with known <hash"),
        (link().replace(b'protocol="http"', b'protocol="gopher"'), "No <url protocol"),
        (b"<metalink>" + b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH + b"</metalink>", "nested deeper"),
        (b'<!DOCTYPE m [<!ENTITY a "b">]><metalink>&a;</metalink>', "entities"),
        (b"<metalink>" + b" " * (1 << 20) + b"</metalink>", "more than"),
    ],
)
def test_bad_metalinks(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_metalink(data, "summary")


# --- addresses


def test_mirrorlist() -> None:
    assert parse_mirrorlist(b"\n# all\nhttp://a/repo/\n\n https://b/x \n") == ("http://a/repo", "https://b/x")
    for bad in (b"", b"# nothing\n", b"file:///etc\n", b"http://\n", b"http://a/\n" * 300):
        with pytest.raises(InvalidInput):
            parse_mirrorlist(bad)


def test_local_path() -> None:
    assert local_path("file:///srv/a%20b") == Path("/srv/a b")
    assert local_path("http://host/repo") is None


def test_transfer_settings() -> None:
    remote = Remote(name="o", values={"proxy": "http://p:1", "http2": "false", "tls-permissive": "true",
                                      "tls-ca-path": "/ca"})  # fmt: skip
    found = transfer_settings(remote, SETTINGS)
    assert (found.http2, found.permissive, found.ca_file) == (False, True, Path("/ca"))
    assert found.proxies == (("all", "http://p:1"),)
    with pytest.raises(InvalidInput, match="must specify both"):
        transfer_settings(Remote(name="o", values={"tls-client-key-path": "/k"}), SETTINGS)
    with pytest.raises(InvalidInput, match="neither true nor false"):
        transfer_settings(Remote(name="o", values={"http2": "maybe"}), SETTINGS)


# --- remotes and cookies


def test_remotes(repo: Repository, tmp_path: Path) -> None:
    assert add_remote(repo, "o", {"url": "http://host/", "branches": "a;b;"})
    assert not add_remote(repo, "o", {"url": "http://other/"}, if_not_exists=True)
    with pytest.raises(Conflict):
        add_remote(repo, "o", {"url": "http://other/"})
    assert find_remote(repo, "o").branches == ("a", "b")
    for bad in ("", "a/b", "../x", 'a"b', "a\nb"):
        with pytest.raises(InvalidInput):
            add_remote(repo, bad, {"url": "http://host/"})
    with pytest.raises(InvalidInput):
        add_remote(repo, "x", {"url": "http://host/\nmode=bare"})
    parent = Repository.init(tmp_path / "parent")
    add_remote(parent, "p", {"url": "http://parent/"})
    repo.config.set("core", "parent", str(parent.path))
    repo.save_config()
    assert list(list_remotes(repo)) == ["o", "p"]
    with pytest.raises(Conflict, match="does not stand in this config"):
        delete_remote(repo, "p")
    add_cookie(cookie_path(repo, "o"), "host", "/", "k", "v")
    assert delete_remote(repo, "o")
    assert not cookie_path(repo, "o").exists()
    assert not delete_remote(repo, "o", if_exists=True)
    with pytest.raises(NotFound):
        delete_remote(repo, "o")
    with pytest.raises(NotFound, match='No "url" option in remote "n"'):
        assert Remote(name="n").url


def test_cookies(tmp_path: Path) -> None:
    path = tmp_path / "o.cookies.txt"
    assert read_cookies(path) == []
    add_cookie(path, "host", "/", "foo", "bar")
    add_cookie(path, "host", "/", "baz", "1")
    add_cookie(path, "host", "/", "baz", "2")
    assert [(cookie.name, cookie.value) for cookie in read_cookies(path)] == [("foo", "bar"), ("baz", "2")]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotFound):
        delete_cookie(path, "host", "/", "baz", "other")
    delete_cookie(path, "host", "/", "baz", "2")
    assert [cookie.name for cookie in read_cookies(path)] == ["foo"]
    with pytest.raises(InvalidInput):
        add_cookie(path, "host", "/", "a\tb", "c")
    path.write_text("# comment\n#HttpOnly_host\tTRUE\t/\tFALSE\t0\tn\tv\n")
    assert read_cookies(path)[0].name == "n"
    path.write_text("nonsense\n")
    with pytest.raises(InvalidInput, match=":1"):
        read_cookies(path)


# --- whose signatures count


def test_gpg_is_not_looked_away_from() -> None:
    silent = Remote(name="o", values={"url": "http://host/"})
    with pytest.raises(TrustError, match="GPG"):
        remote_trust(silent).check_commit(A, b"", {})
    assert remote_trust(silent, local=True).check_commit(A, b"", {}) == ""
    wanted = Remote(name="o", values={"gpg-verify": "true"})
    with pytest.raises(TrustError, match="GPG"):
        remote_trust(wanted, local=True).check_commit(A, b"", {})
    declined = Remote(name="o", values={"gpg-verify": "false"})
    assert remote_trust(declined).check_commit(A, b"", {}) == ""
    summary = Remote(name="o", values={"gpg-verify": "false", "gpg-verify-summary": "true"})
    with pytest.raises(TrustError, match="GPG"):
        remote_trust(summary).check_summary(b"", None, where="x")


def test_signatures() -> None:
    import base64

    private = Ed25519PrivateKey.generate()
    key = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    trust = remote_trust(Remote(name="o", values={"sign-verify": "ed25519", "verification-ed25519-key": key}))
    good = {"ostree.sign.ed25519": [private.sign(b"data")]}
    assert "verified" in trust.check_commit(A, b"data", good)
    for data, metadata in ((b"other", good), (b"data", {}), (b"data", {"ostree.sign.ed25519": [bytes(64)]})):
        with pytest.raises(TrustError):
            trust.check_commit(A, data, metadata)
    with pytest.raises(TrustError, match="No keys found for required signapi type ed25519"):
        remote_trust(Remote(name="o", values={"sign-verify": "ed25519"}))
    with pytest.raises(Unsupported, match="not implemented"):
        remote_trust(Remote(name="o", values={"sign-verify": "none"}))
    signed = remote_trust(Remote(name="o", values={"gpg-verify": "false", "sign-verify-summary": "true",
                                                   "verification-ed25519-key": key}))  # fmt: skip
    for bad in (None, b"", b"invalid"):
        with pytest.raises(TrustError, match="No signatures found"):
            signed.check_summary(b"data", bad, where="x")


# --- deltas, modes


def test_choice() -> None:
    times = {A: 1, B: 2}
    available = [(A, C), (B, C), (None, C), (C, A)]

    def choose(here: set[Checksum], current: Checksum | None) -> Choice:
        return choose_delta(C, current, available, whole=here.__contains__, timestamp_s=times.__getitem__)

    assert choose({C}, None) == Choice(unchanged=True)
    assert choose({A, B}, A).delta == (B, C)
    assert choose({A}, None).delta == (A, C)
    assert choose(set(), None).delta == (None, C)
    assert choose(set(), A).delta is None


def test_safe_modes() -> None:
    check_safe_mode(A, FileHeader(uid=0, gid=0, mode=0o100775))
    check_safe_mode(A, FileHeader(uid=0, gid=0, mode=0o120777, symlink_target="x"))
    with pytest.raises(InvalidInput, match=r"Content object a+: invalid mode 04755 with bits 04000"):
        check_safe_mode(A, FileHeader(uid=0, gid=0, mode=0o104755))


# --- summaries


def test_summary_of_collections(repo: Repository) -> None:
    repo.config.set("core", "collection-id", "org.example.Own")
    repo.config.set('remote "r"', "collection-id", "org.example.Other")
    repo.save_config()
    commit = commit_files(repo, {"a": b"1"})
    repo.set_ref(Ref("r:there"), commit)
    repo.set_ref(Ref("none:nowhere"), commit)
    metadata = {"key": Variant("u", 7)}
    update_metadata_ref(repo, metadata)
    update_metadata_ref(repo, metadata)
    update_summary(repo, metadata=metadata)
    found = parse_summary((repo.path / "summary").read_bytes())
    assert [str(entry.ref) for entry in found.refs] == ["main", "ostree-metadata"]
    assert found.collection_id == "org.example.Own"
    assert {name: [str(entry.ref) for entry in entries] for name, entries in found.mirrored.items()} == {
        "org.example.Other": ["there"]
    }
    assert found.refs[0].timestamp_s == 0
    assert found.metadata["key"] == Variant("u", 7)
    newest = repo.load_commit(repo.resolve(METADATA_REF))
    assert newest.parent is not None
    assert newest.metadata["ostree.collection-binding"] == "org.example.Own"
    assert repo.load_dirtree(newest.tree).files == ()


def test_the_size_in_a_summary_is_little_endian(repo: Repository) -> None:
    commit = commit_files(repo, {"a": b"1"})
    data = build_summary(repo, timestamp_s=0)
    size = parse_summary(data).refs[0].commit_bytes
    assert size.to_bytes(8, "little") + bytes.fromhex(commit)[:4] in data
