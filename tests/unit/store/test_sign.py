"""Signatures: engines, keys in files and folders, commits, summaries."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.unit.store.conftest import commit_files

from wherry.core.errors import InvalidInput, NotFound, TrustError, Unsupported
from wherry.store import sign
from wherry.store.repository import Repository
from wherry.store.summary import update_summary


def new_pair(number: int) -> tuple[str, str]:
    """Returns a secret and a public key, as they are written."""
    key = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    public = key.public_key().public_bytes_raw()
    secret = key.private_bytes_raw() + public
    return base64.b64encode(secret).decode(), base64.b64encode(public).decode()


SECRET, PUBLIC = new_pair(1)
OTHER_SECRET, OTHER = new_pair(2)
_, THIRD = new_pair(3)


def test_commit(user_repo: Repository) -> None:
    commit = commit_files(user_repo, {"a": b"a"})
    verifier = sign.load_verifier("ed25519", keys=[OTHER, PUBLIC])
    with pytest.raises(TrustError, match="no signatures of my type"):
        sign.verify_commit(user_repo, commit, verifier)
    sign.sign_commit(user_repo, commit, sign.engine("ed25519"), SECRET)
    assert sign.verify_commit(user_repo, commit, verifier).startswith("ed25519: Signature verified successfully")
    with pytest.raises(TrustError, match="couldn't be verified with: key '"):
        sign.verify_commit(user_repo, commit, sign.load_verifier("ed25519", keys=[OTHER]))
    many = [new_pair(number)[1] for number in range(10, 20)]
    with pytest.raises(TrustError, match="tried 10 keys"):
        sign.verify_commit(user_repo, commit, sign.load_verifier("ed25519", keys=many))
    sign.sign_commit(user_repo, commit, sign.engine("ed25519"), OTHER_SECRET)
    assert len(sign.signatures_of(user_repo.read_detached(commit), "ed25519") or ()) == 2
    user_repo.write_detached(commit, {**user_repo.read_detached(commit), "other": "stays"})
    assert sign.remove_signatures(user_repo, commit, sign.load_verifier("ed25519", keys=[PUBLIC])) == 1
    assert user_repo.read_detached(commit)["other"] == "stays"
    assert sign.remove_signatures(user_repo, commit, sign.load_verifier("ed25519", keys=[OTHER])) == 1
    assert user_repo.read_detached(commit) == {"other": "stays"}


def test_summary(archive: Repository) -> None:
    commit_files(archive, {"a": b"a"})
    with pytest.raises(NotFound):
        sign.sign_summary(archive, sign.engine("ed25519"), [SECRET])
    update_summary(archive)
    sign.sign_summary(archive, sign.engine("ed25519"), [SECRET])
    sign.sign_summary(archive, sign.engine("ed25519"), [OTHER_SECRET])
    from wherry.store.format import objects

    metadata = objects.parse_dict((archive.path / "summary.sig").read_bytes())
    data = (archive.path / "summary").read_bytes()
    for key in (PUBLIC, OTHER):
        assert sign.verify_data(sign.load_verifier("ed25519", keys=[key]), data, metadata)
    with pytest.raises(TrustError):
        sign.verify_data(sign.load_verifier("ed25519", keys=[PUBLIC]), data + b"x", metadata)


def test_files_and_folders(tmp_path: Path) -> None:
    signature = [sign.engine("ed25519").sign(b"data", SECRET)]
    keys = tmp_path / "keys"
    keys.write_text(f"# not a key\n\n{OTHER}\n{PUBLIC}\n")
    assert sign.load_verifier("ed25519", file=keys).verify(b"data", signature)
    keys.write_text("nothing\n")
    with pytest.raises(InvalidInput, match="no valid keys"):
        sign.load_verifier("ed25519", file=keys)
    with pytest.raises(InvalidInput, match="not a regular file"):
        sign.load_verifier("ed25519", file=tmp_path)
    with pytest.raises(NotFound):
        sign.load_verifier("ed25519", file=tmp_path / "none")
    with pytest.raises(InvalidInput, match="no keys loaded"):
        sign.load_verifier("ed25519", keys_dir=tmp_path)
    (tmp_path / "trusted.ed25519.d").mkdir()
    (tmp_path / "trusted.ed25519.d/one").write_text(OTHER)
    (tmp_path / "trusted.ed25519").write_text(PUBLIC)
    assert sign.load_verifier("ed25519", keys_dir=tmp_path).verify(b"data", signature)
    (tmp_path / "revoked.ed25519.d").mkdir()
    (tmp_path / "revoked.ed25519.d/one").write_text(PUBLIC)
    with pytest.raises(TrustError):
        sign.load_verifier("ed25519", keys_dir=tmp_path).verify(b"data", signature)


def test_malformed_keys_and_signatures() -> None:
    engine = sign.engine("ed25519")
    for bad in ("", "!", "AAAA", PUBLIC):
        with pytest.raises(InvalidInput, match="secret key") as caught:
            engine.sign(b"", bad)
        assert not bad or bad == "!" or bad not in str(caught.value)
    mixed = base64.b64encode(base64.b64decode(SECRET)[:32] + base64.b64decode(OTHER)).decode()
    with pytest.raises(InvalidInput, match="second half"):
        engine.sign(b"", mixed)
    for bad in ("", "?", SECRET):
        with pytest.raises(InvalidInput, match="public key"):
            engine.add_public(bad)
    engine.add_public(PUBLIC)
    with pytest.raises(TrustError, match="expected 64 bytes"):
        engine.verify(b"", [b"short"])
    with pytest.raises(TrustError, match="no signatures"):
        engine.verify(b"", [])


def test_a_key_that_is_no_point_does_not_verify() -> None:
    engine = sign.engine("ed25519")
    engine.add_public(base64.b64encode(b"\xff" * 32).decode())
    with pytest.raises(TrustError):
        engine.verify(b"data", [bytes(64)])


def test_dummy() -> None:
    engine = sign.load_verifier("dummy", keys=["word"], allow_dummy=True)
    assert engine.verify(b"", [engine.sign(b"", "word")]) == "dummy: Signature verified"
    with pytest.raises(TrustError, match="incorrect"):
        engine.verify(b"", [b"other"])
    refused = sign.load_verifier("dummy", keys=["word"])
    with pytest.raises(TrustError, match="testing"):
        refused.verify(b"", [b"word"])
    with pytest.raises(TrustError, match="testing"):
        refused.sign(b"", "word")


def test_unknown_engine() -> None:
    with pytest.raises(Unsupported, match="not implemented"):
        sign.engine("gpg")
