"""Names and passwords for registries: docker's ``config.json``, containers' ``auth.json``, credential helpers.

::

    {"auths": {"registry.example:5000": {"auth": "<base64 of USER:PASSWORD>", "identitytoken": "..."}},
     "credHelpers": {"registry.example": "NAME"},      program docker-credential-NAME, for this registry
     "credsStore": "NAME"}                             the same for all others

A key may have a path (``registry.example/team``); the longest that fits counts. What is refused: a helper's name that
is a path. Passwords are never logged and never stand in a command line; helpers get them on standard input.

Source: docker/cli's config file; docker-credential-helpers' protocol; containers-auth.json(5).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wherry.core import jsonio
from wherry.core.durable import map_os_error, replacing
from wherry.core.errors import InvalidInput, ToolError
from wherry.core.proc import run

MAX_CONFIG_BYTES = 1024 * 1024
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_USER_OF_TOKENS = "<token>"
_DOCKER_KEY = "https://index.docker.io/v1/"
_DOCKER_DOMAIN = "docker.io"
_HELPER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who one is for a registry."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """An OAuth2 refresh token, in the place of both."""

    def basic(self) -> str:
        """Returns the value of an ``Authorization`` header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


class CredentialFile:
    """One such file, which need not be there.

    Args:
        path: the file.
        environment: of helpers, which find their programs and their own settings in it.
    """

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path = path
        self._environment = environment

    def get(self, domain: str, repository: str = "") -> Credentials | None:
        """Returns what is known for a registry, or for one repository of it.

        Raises:
            InvalidInput: the file is malformed.
            ToolError: a helper failed.
        """
        document = self._read()
        helper = _mapping(document, "credHelpers", self.path).get(_key(domain)) or document.get("credsStore")
        if helper and (found := self._ask(str(helper), domain)) is not None:
            return found
        auths = _mapping(document, "auths", self.path)
        name = f"{domain}/{repository}".rstrip("/")
        while name:
            for key in (_key(name), *_spellings(name)):
                if key in auths:
                    return _parse(auths[key], f"{self.path}: auths.{key}")
            name = name.rpartition("/")[0]
        return None

    def put(self, domain: str, credentials: Credentials) -> str:
        """Writes credentials down, by a helper where one is set.

        Returns:
            Where they are now: a path, or a helper's name.
        """
        document = self._read()
        helper = _mapping(document, "credHelpers", self.path).get(_key(domain)) or document.get("credsStore")
        if helper:
            token = credentials.identity_token
            message = {
                "ServerURL": _key(domain),
                "Username": _USER_OF_TOKENS if token else credentials.user,
                "Secret": token or credentials.password,
            }
            self._call(str(helper), "store", jsonio.canonical(message))
            return f"docker-credential-{helper}"
        entry: dict[str, str] = {"auth": credentials.basic().removeprefix("Basic ")}
        if credentials.identity_token:
            entry = {"identitytoken": credentials.identity_token, "auth": entry["auth"]}
        document["auths"] = {**_mapping(document, "auths", self.path), _key(domain): entry}
        self._write(document)
        return str(self.path)

    def remove(self, domain: str) -> bool:
        """Forgets a registry's credentials; tells whether there were any."""
        document = self._read()
        helper = _mapping(document, "credHelpers", self.path).get(_key(domain)) or document.get("credsStore")
        gone = False
        if helper and self._ask(str(helper), domain) is not None:
            self._call(str(helper), "erase", _key(domain).encode())
            gone = True
        auths = dict(_mapping(document, "auths", self.path))
        found = [key for key in (_key(domain), *_spellings(domain)) if key in auths]
        if found:
            document["auths"] = {key: value for key, value in auths.items() if key not in found}
            self._write(document)
        return gone or bool(found)

    # --- helpers

    def _ask(self, helper: str, domain: str) -> Credentials | None:
        answer = self._call(helper, "get", _key(domain).encode(), missing_ok=True)
        if answer is None:
            return None
        value = jsonio.loads(answer, where=f"docker-credential-{helper}", max_bytes=MAX_CONFIG_BYTES)
        user, secret = (value.get(key) for key in ("Username", "Secret")) if isinstance(value, dict) else (None, None)
        if not isinstance(user, str) or not isinstance(secret, str):
            raise InvalidInput("an answer without Username and Secret", where=f"docker-credential-{helper}")
        if user == _USER_OF_TOKENS:
            return Credentials(identity_token=secret)
        return Credentials(user=user, password=secret)

    def _call(self, helper: str, action: str, message: bytes, *, missing_ok: bool = False) -> bytes | None:
        if _HELPER.match(helper) is None:
            raise InvalidInput(f"not the name of a credential helper: {helper[:60]!r}", where=self.path)
        program = f"docker-credential-{helper}"
        done = run(
            [program, action], stdin=message, env=dict(self._environment), check=False, timeout_s=_HELPER_TIMEOUT_S
        )
        if done.returncode == 0:
            return done.stdout
        said = (done.stdout or done.stderr).decode(errors="replace").strip()
        if missing_ok and "not found" in said:
            return None
        raise ToolError(f"{program} {action} failed: {said[:200] or done.returncode}", where=self.path)

    # --- the file

    def _read(self) -> dict[str, Any]:
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_CONFIG_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise map_os_error(error, "cannot read credentials", where=self.path) from error
        value = jsonio.loads(raw, where=self.path, max_bytes=MAX_CONFIG_BYTES) if raw.strip() else {}
        if not isinstance(value, dict):
            raise InvalidInput("a JSON object is needed", where=self.path)
        return value

    def _write(self, document: Mapping[str, Any]) -> None:
        import json

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = 0o600
        if self.path.exists():
            mode = stat.S_IMODE(os.stat(self.path).st_mode) & 0o600
        with replacing(self.path, mode=mode) as file:
            file.write(json.dumps(document, indent="\t").encode() + b"\n")


def _key(name: str) -> str:
    """Returns the key that docker writes for a registry."""
    return _DOCKER_KEY if name == _DOCKER_DOMAIN else name


def _spellings(name: str) -> list[str]:
    """Returns the other keys under which a registry's entry may stand."""
    found = [name, *(f"{scheme}://{name}{end}" for scheme in ("https", "http") for end in ("", "/", "/v1/", "/v2/"))]
    if name == _DOCKER_DOMAIN:
        found += ["index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1"]
    return found


def _mapping(document: Mapping[str, Any], key: str, where: Path) -> dict[str, Any]:
    value = document.get(key)
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{key}: must be an object", where=where)
    return value or {}


def _parse(entry: Any, where: str) -> Credentials | None:
    if not isinstance(entry, dict):
        raise InvalidInput("must be an object", where=where)
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        return Credentials(identity_token=token)
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        try:
            user, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidInput("auth: not the base64 of USER:PASSWORD", where=where) from None
        if not colon:
            raise InvalidInput("auth: not the base64 of USER:PASSWORD", where=where)
        return Credentials(user=user, password=password.rstrip("\0"))
    name, secret = entry.get("username"), entry.get("password")
    if isinstance(name, str) and name:
        return Credentials(user=name, password=secret if isinstance(secret, str) else "")
    return None
