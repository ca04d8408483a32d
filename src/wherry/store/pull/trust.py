"""Whom a remote's commits and summary must be signed by, as its section in the config says.

``sign-verify`` and ``sign-verify-summary`` are ``true``, or the kinds of signature that count, with ``;`` between;
``verification-KIND-key`` and ``-file`` name the keys. Without keys there the system's folders count.

GPG: Wherry has none, and does not look away either. A remote whose section says ``gpg-verify=true``, or that says
nothing and is asked over a network, is refused, unless ``sign-verify`` is wanted in its stead; for a ``file://`` on
this machine, silence is not taken for a wish, as ``pull-local`` does not check it either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wherry.core.errors import InvalidInput, TrustError
from wherry.store import sign
from wherry.store.format import objects
from wherry.store.pull.remote import Remote
from wherry.store.sign import Engine

KINDS = ("ed25519", "dummy")
_NO_GPG = "add it with --sign-verify=ed25519=inline:KEY, or with --no-sign-verify"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTrust:
    """What is asked of a remote."""

    name: str
    commit_engines: tuple[Engine, ...] = ()
    summary_engines: tuple[Engine, ...] = ()
    gpg: bool = False
    gpg_summary: bool = False

    @property
    def signed_summary(self) -> bool:
        """Whether the summary must be signed."""
        return bool(self.summary_engines) or self.gpg_summary

    def check_commit(self, commit: object, data: bytes, detached: Mapping[str, Any]) -> str:
        """Checks the signatures of a commit.

        Returns:
            What to say about it; empty when none was asked for.

        Raises:
            TrustError: it is not signed as it should be.
        """
        if self.gpg:
            raise TrustError(
                f"GPG verification enabled for remote {self.name}, which Wherry cannot do", where=commit, hint=_NO_GPG
            )
        return _check(self.commit_engines, data, detached, commit)

    def check_summary(self, data: bytes, signatures: bytes | None, *, where: object) -> str:
        """Checks the signatures of a summary.

        Args:
            data: the summary.
            signatures: what ``summary.sig`` holds; None when there is none.
            where: for errors.

        Raises:
            TrustError: it is not signed as it should be.
        """
        if self.gpg_summary:
            raise TrustError(
                f"GPG verification enabled for the summary of remote {self.name}, which Wherry cannot do",
                where=where,
                hint=_NO_GPG,
            )
        if not self.summary_engines:
            return ""
        try:
            found = objects.parse_dict(signatures, where=where) if signatures else {}
        except InvalidInput:
            found = {}
        if not any(key.startswith(sign.PREFIX) for key in found):
            raise TrustError("No signatures found", where=where, hint="sign the summary there")
        return _check(self.summary_engines, data, found, where)


def remote_trust(remote: Remote, *, local: bool = False, allow_dummy: bool = False) -> RemoteTrust:
    """Returns what is asked of a remote.

    Args:
        remote: which.
        local: whether it lies on this machine.
        allow_dummy: whether OSTree's dummy signatures count, for tests.

    Raises:
        TrustError: signatures are wanted, and there is no key.
        Unsupported: a kind of signature is not known.
        InvalidInput: a key is none.
    """
    commit_engines = _engines(remote, "sign-verify", allow_dummy)
    summary_engines = _engines(remote, "sign-verify-summary", allow_dummy)
    default = bool(remote.name) and not local and not commit_engines
    return RemoteTrust(
        name=remote.name,
        commit_engines=commit_engines,
        summary_engines=summary_engines,
        gpg=remote.flag("gpg-verify", default),
        gpg_summary=remote.flag("gpg-verify-summary", False),
    )


def _engines(remote: Remote, key: str, allow_dummy: bool) -> tuple[Engine, ...]:
    text = remote.get(key)
    if text in ("", "false", "0"):
        return ()
    if text in ("true", "1"):
        found = [_engine(remote, kind, allow_dummy) for kind in KINDS if _has_keys(remote, kind)]
        if not found:  # the system's keys
            found = [_engine(remote, KINDS[0], allow_dummy)]
        return tuple(found)
    return tuple(_engine(remote, kind, allow_dummy, named=True) for kind in text.split(";") if kind)


def _has_keys(remote: Remote, kind: str) -> bool:
    return bool(remote.get(f"verification-{kind}-key") or remote.get(f"verification-{kind}-file"))


def _engine(remote: Remote, kind: str, allow_dummy: bool, *, named: bool = False) -> Engine:
    key, file = remote.get(f"verification-{kind}-key"), remote.get(f"verification-{kind}-file")
    if named and kind in KINDS and not key and not file:
        raise TrustError(
            f"No keys found for required signapi type {kind}",
            where=f"remote {remote.name}",
            hint=f"set verification-{kind}-key or verification-{kind}-file",
        )
    keys = [item for item in key.split(";") if item]
    return sign.load_verifier(kind, keys=keys, file=Path(file) if file else None, allow_dummy=allow_dummy)


def _check(engines: tuple[Engine, ...], data: bytes, metadata: Mapping[str, Any], where: object) -> str:
    """Returns what the first engine that is content says."""
    errors = []
    for engine in engines:
        try:
            return sign.verify_data(engine, data, metadata)
        except TrustError as error:
            errors.append(error.what)
    if errors:
        raise TrustError("; ".join(errors), where=where)
    return ""
