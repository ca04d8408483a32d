"""What a source of ADD is: a path in the build context, a download, or a Git repository.

Source: Dockerfile reference, "ADD"; docs.docker.com/build/concepts/context, "Git repositories", "URL fragments".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qsl, urlsplit

from wherry.image.dockerfile.problems import Place

MAX_URL_CHARS = 8192
_SCP = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:(?!//)[^\s]+\Z")
_SCHEME = re.compile(r"(https?|git|ssh)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSource:
    """A path, with wildcards, below the top of the context. It never leads out of it."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSource:
    """A file that is downloaded."""

    url: str
    file_name: str
    """The last part of its path; "" when there is none, so that the destination has to name the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """A commit of a Git repository, or a directory in it."""

    remote: str
    ref: str = ""
    """A branch, a tag or a commit; "" is what the other side's HEAD is."""
    subdirectory: str = ""


AddSource: TypeAlias = PathSource | UrlSource | GitSource


def classify(text: str, place: Place) -> AddSource:
    """Returns what a source of ADD is.

    Raises:
        InvalidInput: a URL is malformed.
    """
    if len(text) > MAX_URL_CHARS:
        raise place.error(f"a source longer than {MAX_URL_CHARS} characters")
    if _SCP.match(text):
        remote, _, fragment = text.partition("#")
        return _git(remote, fragment)
    match = _SCHEME.match(text)
    if match is None:
        return PathSource(path=text)
    try:
        url = urlsplit(text)
        host = url.hostname
        url.port  # noqa: B018 raises for what is no number
    except ValueError as error:
        raise place.error(f"not a URL: {text[:80]!r}: {error}") from None
    if not host:
        raise place.error(f"a URL without a host: {text[:80]!r}")
    if match[1].lower() in ("git", "ssh") or url.path.endswith(".git"):
        query = dict(parse_qsl(url.query))
        remote = url._replace(query="", fragment="").geturl()
        ref = query.get("ref") or query.get("branch") or query.get("tag") or ""
        if ref or query.get("subdir"):
            return GitSource(remote=remote, ref=ref, subdirectory=query.get("subdir", "").strip("/"))
        return _git(remote, url.fragment)
    return UrlSource(url=text, file_name=url.path.rpartition("/")[2])


def _git(remote: str, fragment: str) -> GitSource:
    ref, _, subdirectory = fragment.partition(":")
    return GitSource(remote=remote, ref=ref, subdirectory=subdirectory.strip("/"))
