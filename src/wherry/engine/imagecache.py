"""What a start needs of an image, beside the image's mountable metadata: read in one piece, without the store.

::

    <root>/store/refs/heads/image/...    the store's own ref: which commit a name is now
    <root>/images/<commit>.erofs         see rootfs.py
    <root>/images/<commit>.json          {"version", "settings"}: what the commit's metadata says, read once

A commit never changes, so neither does what stands here; a name is looked up in the store's refs each time. Anything
unusual (a digest, an id, a name that is odd, a file that is missing or of another version) is answered by None, and
`image.catalog` is asked, errors and all. Not promised: durability; what is lost is made anew.

Budget: no import of the store, of ``re``, or of data classes.
"""

from __future__ import annotations

import errno
import os

from wherry.core import jsonio
from wherry.core.digest import is_checksum
from wherry.core.durable import map_os_error
from wherry.core.errors import InvalidInput
from wherry.core.value import Value, fields_of
from wherry.engine.spec import BareSettings
from wherry.spec.values import decode_value, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.engine.spec import ImageSettings

VERSION = 2
SUFFIX = ".json"
MAX_BYTES = 4 * 1024 * 1024
_MAX_REF_BYTES = 128
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-/")
_DEFAULT_DOMAIN, _DEFAULT_TAG, _OFFICIAL = "docker.io", "latest", "library/"


class Found(Value):
    """An image: its reference, its commit, and what its config says."""

    reference: str
    commit: str
    settings: BareSettings


def find(store: str, images: str, name: str) -> Found | None:
    """Returns an image by its name, when all that a start needs of it is there.

    Args:
        store: the repository's folder.
        images: the engine's folder of images.
        name: what a user wrote.
    """
    reference = normal_name(name)
    if reference is None:
        return None
    head = _read(f"{store}/refs/heads/{ref_of(reference)}", _MAX_REF_BYTES)
    commit = "" if head is None else head.decode("ascii", "replace").strip()
    if not is_checksum(commit) or not is_prepared(images, commit):
        return None
    data = _read(f"{images}/{commit}{SUFFIX}", MAX_BYTES)
    if data is None:
        return None
    try:
        value = jsonio.loads(data, max_bytes=MAX_BYTES)
        if value["version"] != VERSION:
            return None
        settings = decode_value(BareSettings, value["settings"])
    except (InvalidInput, KeyError, TypeError):
        return None
    return Found(reference=reference, commit=commit, settings=settings)


def is_prepared(images: str, commit: str) -> bool:
    """Tells whether what is mounted of an image is there: its metadata, or a copy of its files."""
    return os.path.exists(f"{images}/{commit}.erofs") or os.path.exists(f"{images}/{commit}")


def remember(images: str, commit: str, settings: ImageSettings) -> None:
    """Leaves what `find` needs of an image; on a full disk nothing is left.

    Several may do so at once, each by a file of its own; whoever clears up half-made ones may take that away.
    """
    kept = BareSettings(**{name: getattr(settings, name) for name in fields_of(BareSettings)})
    path = f"{images}/{commit}{SUFFIX}"
    temporary = f"{images}/.new-{commit}.{os.urandom(6).hex()}{SUFFIX}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(jsonio.compact({"version": VERSION, "settings": encode(kept)}))
        try:
            os.replace(temporary, path)
        except FileNotFoundError:
            return  # cleared up; the next start leaves it
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise map_os_error(error, "cannot write", where=path) from error
        try:
            os.unlink(temporary)  # the store knows it all
        except FileNotFoundError:
            pass


def normal_name(name: str) -> str | None:
    """Returns an image's name as `image.reference` normalises it; None where that shall be asked.

    What is no name at all may come out as something that nothing is ever stored under.
    """
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        name = head
    else:
        tag = _DEFAULT_TAG
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        if first in (_DEFAULT_DOMAIN, f"index.{_DEFAULT_DOMAIN}"):
            return None
        text = f"{name}:{tag}"
    else:
        path = name if slash else _OFFICIAL + name
        text = f"{_DEFAULT_DOMAIN}/{path}:{tag}"
    if "@" in text or not text.isascii() or "\0" in text or not name or not tag:
        return None
    return None if any(part[:1] in ("", ".") for part in text.split("/")) else text


def ref_of(reference: str) -> str:
    """Returns the store's ref that holds the image of a normalised name."""
    return "image/" + "".join(char if char in _SAFE else f"_{ord(char):02X}" for char in reference)


def _read(path: str, max_bytes: int) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        data = os.read(fd, min(os.fstat(fd).st_size, max_bytes) + 1)
        return data if len(data) <= max_bytes else None
    finally:
        os.close(fd)
