"""Signatures as OSTree makes them: over commits, summaries and deltas, by engines with a name.

A signature stands in ``a{sv}`` beside what it is over, under its engine's key, as one of a list of byte strings:

=========== ========================== =========================================================
engine      key                        a signature
=========== ========================== =========================================================
ed25519     ``ostree.sign.ed25519``    64 bytes (RFC 8032); public keys are 32 bytes, secret ones 64: seed, public
dummy       ``ostree.sign.dummy``      the "key" itself: for tests of what signs, refused unless it is asked for
=========== ========================== =========================================================

Keys are written as base64, one a line. Those of the system lie in ``trusted.ed25519``, ``trusted.ed25519.d/*``,
``revoked.ed25519`` and ``revoked.ed25519.d/*`` below ``/etc/ostree`` and ``/usr/share/ostree``. A revoked key never
verifies anything. No secret is part of a message or a ``repr``.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wherry.core.digest import Checksum
from wherry.core.durable import map_os_error, write_file
from wherry.core.errors import IntegrityError, InvalidInput, NotFound, TrustError, Unsupported
from wherry.store.format import objects
from wherry.store.format.objects import ObjectType
from wherry.store.format.variant import Variant

if TYPE_CHECKING:
    from wherry.store.repository import Repository

PREFIX = "ostree.sign."
ED25519 = "ed25519"
DUMMY = "dummy"
SYSTEM_FOLDERS = (Path("/etc/ostree"), Path("/usr/share/ostree"))
MAX_KEY_FILE_BYTES = 1024 * 1024
MAX_KEYS = 10_000
MAX_SIGNATURES = 1000
_PUBLIC_BYTES = 32
_SECRET_BYTES = 64
_SIGNATURE_BYTES = 64
_NAMED_KEYS = 3
"""Up to so many keys are named when none of them verifies."""


class Engine(ABC):
    """One way to sign: the secrets and public keys it was given, and what it does with them."""

    name = ""

    @property
    def key(self) -> str:
        """Where its signatures stand in metadata."""
        return PREFIX + self.name

    @abstractmethod
    def add_public(self, text: str) -> None:
        """Takes a public key in its written form.

        Raises:
            InvalidInput: it is none.
        """

    @abstractmethod
    def sign(self, data: bytes, secret: str) -> bytes:
        """Returns the signature of a secret key, in its written form, over `data`.

        Raises:
            InvalidInput: it is none.
        """

    @abstractmethod
    def verify(self, data: bytes, signatures: Sequence[bytes]) -> str:
        """Returns what to say about the first signature that is by a key that was taken.

        Raises:
            TrustError: there is none.
        """

    def load_file(self, path: Path) -> None:
        """Takes the public keys in a file, one a line.

        Raises:
            InvalidInput: it holds none.
            NotFound: it is not there.
        """
        raise Unsupported(f"{self.name}: there are no files of public keys", where=path)

    def load_system(self, folders: Iterable[Path] = SYSTEM_FOLDERS) -> None:
        """Takes the public keys of the system, and those that are revoked.

        Raises:
            InvalidInput: there are none.
        """
        raise Unsupported(f"{self.name}: there are no public keys of the system")


class Ed25519(Engine):
    """Ed25519, as ``ostree sign`` has it."""

    name = ED25519

    def __init__(self) -> None:
        self._public: dict[bytes, None] = {}
        self._revoked: set[bytes] = set()

    def add_public(self, text: str) -> None:
        """Takes a public key, base64 of 32 bytes."""
        if len(self._public) >= MAX_KEYS:
            raise InvalidInput(f"more than {MAX_KEYS} public keys")
        self._public[_decode(text, _PUBLIC_BYTES, "Invalid ed25519 public key")] = None

    def sign(self, data: bytes, secret: str) -> bytes:
        """Returns the signature of a secret key, base64 of seed and public key, over `data`."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        raw = _decode(secret, _SECRET_BYTES, "Invalid ed25519 secret key")
        key = Ed25519PrivateKey.from_private_bytes(raw[:32])
        if key.public_key().public_bytes_raw() != raw[32:]:
            raise InvalidInput("Invalid ed25519 secret key: its second half is not its public key")
        return key.sign(data)

    def verify(self, data: bytes, signatures: Sequence[bytes]) -> str:
        """Returns what to say about the first signature that is by a trusted key that is not revoked."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if not self._public:
            self.load_system()
        failed: list[bytes] = []
        for signature in signatures:
            if len(signature) != _SIGNATURE_BYTES:
                raise TrustError(f"Invalid signature: {_ill_formed(signature, _SIGNATURE_BYTES)}")
            for public in self._public:
                if public in self._revoked:
                    continue
                try:
                    Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
                except (InvalidSignature, ValueError):
                    failed.append(public)
                    continue
                return f"ed25519: Signature verified successfully with key '{public.hex()}'"
        if not failed:
            raise TrustError("ed25519: no signatures found" if not signatures else "ed25519: no key is trusted")
        if len(failed) > _NAMED_KEYS:
            raise TrustError(f"ed25519: Signature couldn't be verified; tried {len(failed)} keys")
        tried = "; ".join(f"key '{public.hex()}'" for public in failed)
        raise TrustError(f"ed25519: Signature couldn't be verified with: {tried}")

    def load_file(self, path: Path) -> None:
        """Takes the public keys in a file; lines that are none are stepped over, as long as one is a key."""
        found = _public_keys(path)
        if not found:
            raise InvalidInput("ed25519: no valid keys in the file", where=path, hint="one line of base64 a key")
        for raw in found:
            if len(self._public) >= MAX_KEYS:
                raise InvalidInput(f"more than {MAX_KEYS} public keys", where=path)
            self._public[raw] = None

    def load_system(self, folders: Iterable[Path] = SYSTEM_FOLDERS) -> None:
        """Takes the keys in ``trusted.ed25519{,.d}`` and ``revoked.ed25519{,.d}`` below `folders`.

        A file of revoked keys that cannot be read is an error: to step over it would trust its keys.
        """
        folders = tuple(folders)
        for path in _key_files(folders, "trusted.ed25519"):
            for raw in _public_keys(path):
                self._public[raw] = None
        for path in _key_files(folders, "revoked.ed25519"):
            self._revoked.update(_public_keys(path))
        if not self._public:
            raise InvalidInput(
                "signature: ed25519: no keys loaded",
                where=", ".join(str(folder) for folder in folders),
                hint="write public keys into trusted.ed25519 there",
            )


class Dummy(Engine):
    """No signature at all: for tests of what signs and verifies."""

    name = DUMMY

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._public = ""

    def add_public(self, text: str) -> None:
        """Takes the "key"; the last one counts."""
        self._public = text

    def sign(self, data: bytes, secret: str) -> bytes:
        """Returns the "key" itself."""
        self._check()
        return secret.encode()

    def verify(self, data: bytes, signatures: Sequence[bytes]) -> str:
        """Returns when one signature is the "key"."""
        self._check()
        if self._public.encode() in signatures:
            return "dummy: Signature verified"
        if signatures:
            raise TrustError(f"signature: dummy: incorrect signatures found: {len(signatures)}")
        raise TrustError("signature: dummy: no signatures")

    def _check(self) -> None:
        if not self._enabled:
            raise TrustError("dummy signature type is only for ostree testing")


def engine(name: str, *, allow_dummy: bool = False) -> Engine:
    """Returns a new engine.

    Args:
        name: ``ed25519`` or ``dummy``.
        allow_dummy: whether the dummy may do anything.

    Raises:
        Unsupported: there is none of this name.
    """
    if name == ED25519:
        return Ed25519()
    if name == DUMMY:
        return Dummy(enabled=allow_dummy)
    raise Unsupported("Requested signature type is not implemented", where=name, hint="ed25519 is")


def load_verifier(
    name: str,
    *,
    keys: Iterable[str] = (),
    file: Path | None = None,
    keys_dir: Path | None = None,
    allow_dummy: bool = False,
) -> Engine:
    """Returns an engine with public keys: those given, and those of a file; when none are, those of the system.

    Args:
        name: of the engine.
        keys: public keys in their written form.
        file: of more.
        keys_dir: instead of the system's folders.
        allow_dummy: whether the dummy may do anything.

    Raises:
        Unsupported: there is no such engine.
        InvalidInput: a key is none, or there are none at all.
        NotFound: `file` is not there.
    """
    found = engine(name, allow_dummy=allow_dummy)
    given = list(keys)
    for key in given:
        found.add_public(key)
    if file is not None:
        found.load_file(file)
    elif not given:
        found.load_system((keys_dir,) if keys_dir is not None else SYSTEM_FOLDERS)
    return found


# --- signatures in metadata


def signatures_of(metadata: Mapping[str, Any], name: str) -> list[bytes] | None:
    """Returns the signatures of an engine in detached metadata; None when there is no list of them.

    Raises:
        InvalidInput: there are too many.
    """
    value = metadata.get(PREFIX + name)
    if isinstance(value, Variant):  # how an empty list comes, and what stands in a delta
        value = value.value if value.type == "aay" else None
    if not isinstance(value, list | tuple) or not all(isinstance(item, bytes) for item in value):
        return None
    if len(value) > MAX_SIGNATURES:
        raise InvalidInput(f"more than {MAX_SIGNATURES} signatures", where=PREFIX + name)
    return list(value)


def verify_data(found: Engine, data: bytes, metadata: Mapping[str, Any]) -> str:
    """Returns what to say about the first good signature over `data` in metadata.

    Raises:
        TrustError: there is none.
    """
    signatures = signatures_of(metadata, found.name)
    if signatures is None:
        raise TrustError(f"{found.name}: commit have no signatures of my type")
    return found.verify(data, signatures)


def _with_signature(metadata: Mapping[str, Any], found: Engine, signature: bytes) -> dict[str, Any]:
    before = signatures_of(metadata, found.name) or []
    return {**metadata, found.key: [*before, signature]}


def sign_commit(repo: Repository, commit: Checksum, found: Engine, secret: str) -> None:
    """Adds a signature to a commit's detached metadata.

    Raises:
        NotFound: there is no such commit.
        InvalidInput: the secret is no key.
    """
    data = _commit_bytes(repo, commit)
    repo.write_detached(commit, _with_signature(repo.read_detached(commit), found, found.sign(data, secret)))


def verify_commit(repo: Repository, commit: Checksum, found: Engine) -> str:
    """Returns what to say about the first good signature of a commit.

    Raises:
        TrustError: there is none.
    """
    return verify_data(found, _commit_bytes(repo, commit), repo.read_detached(commit))


def remove_signatures(repo: Repository, commit: Checksum, found: Engine) -> int:
    """Removes the signatures by the public keys that an engine was given.

    Returns:
        How many.
    """
    data = _commit_bytes(repo, commit)
    metadata = repo.read_detached(commit)
    before = signatures_of(metadata, found.name) or []
    kept = [signature for signature in before if not _is_by(found, data, signature)]
    if len(kept) != len(before):
        rest: dict[str, Any] = {key: value for key, value in metadata.items() if key != found.key}
        repo.write_detached(commit, {**rest, found.key: kept} if kept else rest)
    return len(before) - len(kept)


def _is_by(found: Engine, data: bytes, signature: bytes) -> bool:
    try:
        found.verify(data, [signature])
    except TrustError:
        return False
    return True


def sign_summary(repo: Repository, found: Engine, secrets: Iterable[str]) -> None:
    """Adds signatures over the summary to ``summary.sig``, durably.

    Raises:
        NotFound: there is no summary.
        InvalidInput: a secret is no key.
    """
    try:
        data = (repo.path / "summary").read_bytes()
    except FileNotFoundError:
        raise NotFound("no summary", where=repo.path, hint="make one with --update") from None
    path = repo.path / "summary.sig"
    metadata: dict[str, Any] = {}
    if path.exists():
        metadata = objects.parse_dict(path.read_bytes(), where=path)
    for secret in secrets:
        metadata = _with_signature(metadata, found, found.sign(data, secret))
    write_file(path, objects.serialize_dict(metadata))


def _commit_bytes(repo: Repository, commit: Checksum) -> bytes:
    data = repo.metadata_bytes(ObjectType.COMMIT, commit)
    if objects.metadata_checksum(data) != commit:
        raise IntegrityError("the commit's bytes do not have its checksum", where=commit)
    return data


# --- files of keys


def read_secrets(path: Path) -> list[str]:
    """Returns the secret keys in a file, one a line, in their written form.

    Raises:
        InvalidInput: it is no regular file, too long, or holds none.
        NotFound: it is not there.
    """
    keys = [line.strip() for line in _read(path).decode(errors="replace").splitlines() if line.strip()]
    if not keys:
        raise InvalidInput("no keys in the file", where=path, hint="one line of base64 a key")
    return keys


def _public_keys(path: Path) -> list[bytes]:
    """Returns the keys in a file; lines that are none are stepped over."""
    found = []
    for line in _read(path).decode(errors="replace").splitlines():
        try:
            found.append(_decode(line, _PUBLIC_BYTES, ""))
        except InvalidInput:
            continue
    return found


def _key_files(folders: Iterable[Path], name: str) -> list[Path]:
    found = []
    for folder in folders:
        if (folder / name).is_file():
            found.append(folder / name)
        try:
            found.extend(sorted(path for path in (folder / f"{name}.d").iterdir() if path.is_file()))
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInput(f"File object '{path}' is not a regular file")
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFound("no such file of keys", where=path) from None
    except IsADirectoryError:
        raise InvalidInput(f"File object '{path}' is not a regular file") from None
    except OSError as error:
        raise map_os_error(error, "cannot read keys", where=path) from error
    if len(data) > MAX_KEY_FILE_BYTES:
        raise InvalidInput(f"longer than {MAX_KEY_FILE_BYTES} bytes", where=path)
    return data


def _decode(text: str, size: int, what: str) -> bytes:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{what}: it is not base64") from None
    if len(raw) != size:
        raise InvalidInput(f"{what}: {_ill_formed(raw, size)}")
    return raw


def _ill_formed(data: bytes, size: int) -> str:
    return f"Ill-formed input: expected {size} bytes, got {len(data)} bytes"
