"""Which commits a pull is for: from the names on the command line, the remote's summary, and its refs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wherry.core.digest import Checksum, is_checksum
from wherry.core.errors import InvalidInput, NotFound, Unsupported
from wherry.store.config import Config
from wherry.store.pull.remote import Remote
from wherry.store.pull.summary_cache import SummaryCache, fetch_summary
from wherry.store.pull.trust import RemoteTrust
from wherry.store.pull.web import MAX_CONFIG_BYTES, Web
from wherry.store.refs import parse_ref, split_ref
from wherry.store.summary import Summary, parse_summary

MAX_REF_BYTES = 1024
_SHOWN_CHARS = 64
_MODE = "ostree.summary.mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One commit that is wanted, and the ref that it is for; None when it was named by its checksum."""

    ref: str | None
    commit: Checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a pull is for, and the summary that was looked at."""

    targets: tuple[Target, ...]
    summary: Summary | None = None
    summary_bytes: bytes | None = None
    signature_bytes: bytes | None = None

    @property
    def tombstones(self) -> bool:
        """Whether the remote says, in its summary, that it leaves a tombstone for each commit that it deletes."""
        return self.summary is not None and self.summary.tombstones


def find_targets(
    web: Web,
    remote: Remote,
    names: Sequence[str],
    *,
    mirror: bool,
    trust: RemoteTrust,
    cache: SummaryCache | None,
    local: bool,
) -> Found:
    """Finds out what to pull, and that the remote can be pulled from.

    Args:
        web: the remote.
        remote: its section.
        names: ``REF``, ``REF@COMMIT`` or checksums; none: what the section names, or all of a mirror.
        mirror: whether all is meant when nothing is named.
        trust: what the summary must be signed by.
        cache: of the summary.
        local: whether it lies on this machine, where any mode will do.

    Raises:
        NotFound: there is no repository, or no such ref.
        Unsupported: it is no archive, so that it cannot be pulled over HTTP.
        TrustError: the summary is not signed as it should be.
        InvalidInput: a name is malformed, or what the remote says is.
    """
    wanted = [_parse(name) for name in (names or remote.branches)]
    everything = mirror and not names
    overridden = bool(wanted) and not everything and all(ref is not None and commit for ref, commit in wanted)
    summary: Summary | None = None
    fetched = None
    if not overridden or trust.signed_summary:
        fetched = fetch_summary(
            lambda path, limit, headers: web.read(path, limit, headers=headers), cache, trust, where=web.name
        )
        if fetched is not None:
            summary = parse_summary(fetched.data, where=f"summary of {web.name}")
    if not local:
        _check_mode(web, summary)
    if everything:
        if summary is None:
            raise NotFound(
                "Fetching all refs was requested in mirror mode, but remote repository does not have a summary",
                where=web.name,
                hint="make one there with `wherry store summary -u`",
            )
        targets = [Target(ref=str(entry.ref), commit=entry.commit) for entry in summary.refs]
    elif not wanted:
        raise InvalidInput(f"No configured branches for remote {remote.name}", hint="name one, or use --mirror for all")
    else:
        targets = [
            Target(ref=ref, commit=commit or _resolve(web, remote, summary, ref or "")) for ref, commit in wanted
        ]
    return Found(
        targets=tuple(dict.fromkeys(targets)),
        summary=summary,
        summary_bytes=fetched.data if fetched else None,
        signature_bytes=fetched.signatures if fetched else None,
    )


def _parse(name: str) -> tuple[str | None, Checksum | None]:
    """Returns ref and commit of a name."""
    if is_checksum(name):
        return None, Checksum(name)
    ref, at, commit = name.partition("@")
    if split_ref(parse_ref(ref))[0] is not None:
        raise InvalidInput(f"Invalid ref name {ref}", hint="name the remote before its refs")
    if not at:
        return ref, None
    if not is_checksum(commit):
        raise InvalidInput(f"Invalid rev {commit[:_SHOWN_CHARS]}", where=name, hint="write REF@COMMIT with a checksum")
    return ref, Checksum(commit)


def _check_mode(web: Web, summary: Summary | None) -> None:
    mode = summary.metadata.get(_MODE) if summary is not None else None
    if not isinstance(mode, str):
        data = web.read("config", MAX_CONFIG_BYTES).body
        mode = Config(data.decode(errors="replace"), where="the remote's config").get("core", "mode", "bare")
    if mode not in ("archive", "archive-z2"):
        raise Unsupported(
            f'Can\'t pull from archives with mode "{mode}"', where=web.name, hint="serve one of mode archive"
        )


def _resolve(web: Web, remote: Remote, summary: Summary | None, ref: str) -> Checksum:
    """Returns the commit of a ref there."""
    if summary is not None:
        for entry in summary.refs:
            if entry.ref == ref:
                return entry.commit
        raise NotFound(f"No such branch '{ref}' in repository summary", where=web.name)
    data = web.read(f"refs/heads/{ref}", MAX_REF_BYTES).body
    text = data.decode("utf-8", errors="replace").strip()
    if not is_checksum(text):
        shown = "".join(char if char.isprintable() else " " for char in text[:_SHOWN_CHARS])
        raise InvalidInput(
            f"Fetching checksum for ref ({remote.collection_id or '(empty)'}, {ref}): Invalid rev {shown}",
            hint="is that a repository?",
        )
    return Checksum(text)
