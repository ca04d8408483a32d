"""Names of images, as docker writes them: ``nginx``, ``localhost:5000/team/app:1.2``, ``debian@sha256:...``.

A reference is normalised when it is parsed: ``nginx`` is ``docker.io/library/nginx:latest``. In the store an image
is kept under a ref name below ``image/``, in which every byte that OSTree does not take there is written ``_`` and
two hex digits; so ``docker.io/library/nginx:1.2`` is ``image/docker.io/library/nginx_3A1.2``.

Source: distribution/reference v0.6 (the grammar in ``reference.go``, the rules of ``normalize.go``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.core.digest import Digest, Ref, is_checksum
from wherry.core.errors import InvalidInput

MAX_NAME_CHARS = 255
DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
REF_PREFIX = "image/"

_LEGACY_DEFAULT_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?:[a-fA-F0-9:]+)\])"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_DOMAIN = re.compile(rf"{_HOST}(?::[0-9]+)?\Z")
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_UNSAFE = re.compile(r"[^A-Za-z0-9.\-/]")
_ESCAPE = re.compile(r"_([0-9A-F]{2})")
_HINT = "write it as [HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST], in lower case"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The name of an image, normalised."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Returns what a user wrote as a normalised reference.

        Raises:
            InvalidInput: it is not one.
        """
        name, at, digest = text.partition("@")
        if at and _DIGEST.match(digest) is None:
            raise InvalidInput(f"not a sha256 digest: {digest[:90]!r}", where=text[:300], hint=_HINT)
        head, colon, tag = name.rpartition(":")
        if colon and "/" not in tag:
            name = head
            if _TAG.match(tag) is None:
                raise InvalidInput(f"not a tag: {tag[:140]!r}", where=text[:300], hint=_HINT)
        else:
            tag = ""
        if is_checksum(name):
            raise InvalidInput("a name of 64 hex digits would look like an identifier", where=text)
        domain, path = _split(name)
        if _DOMAIN.match(domain) is None or _PATH.match(path) is None:
            raise InvalidInput(f"not the name of an image: {text[:300]!r}", hint=_HINT)
        if len(domain) + 1 + len(path) > MAX_NAME_CHARS:
            raise InvalidInput(f"the name of an image is longer than {MAX_NAME_CHARS} characters", where=name[:60])
        if not tag and not digest:
            tag = DEFAULT_TAG
        return cls(domain=domain, path=path, tag=tag or None, digest=Digest(digest) if digest else None)

    @classmethod
    def from_ref(cls, ref: str) -> Reference:
        """Returns the reference whose ``ref`` this is.

        Raises:
            InvalidInput: it is the name of no image.
        """
        text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), ref.removeprefix(REF_PREFIX))
        try:
            found = cls.parse(text)
        except InvalidInput:
            found = None
        if found is None or found.ref != ref:
            raise InvalidInput(f"not the ref of an image: {ref[:300]!r}")
        return found

    @property
    def ref(self) -> Ref:
        """The name of the store's ref that holds this image."""
        return Ref(REF_PREFIX + _UNSAFE.sub(lambda match: f"_{ord(match[0]):02X}", str(self)))

    @property
    def repository(self) -> str:
        """Domain and path, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """Domain and path, as short as docker shows them."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        rest = self.path.removeprefix(_OFFICIAL)
        return rest if "/" not in rest else self.path

    @property
    def familiar(self) -> str:
        """The reference, as short as docker shows it: ``nginx:1.2``."""
        return self.familiar_repository + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.repository + self._suffix()


def _split(name: str) -> tuple[str, str]:
    """Returns domain and path: the first part is a domain when it cannot be the beginning of a path."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        first, rest = DEFAULT_DOMAIN, name
    if first == _LEGACY_DEFAULT_DOMAIN:
        first = DEFAULT_DOMAIN
    if first == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return first, rest
