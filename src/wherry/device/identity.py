"""Who the device is, which hub it listens to, and whose signatures it takes; and how it is enrolled.

The key is made on the device and never leaves it. The enrolment token is used once, for the hub to note the
device, and is not kept. The owner's public keys are pinned here: the hub can tell the device *which* revision to
run, but only the owner's key makes something a revision. ``identity.json`` is written last, so that a device is
enrolled or is not; cut short, enrolling again uses the same key, which to the hub is the same device.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wherry.core import durable, jsonio
from wherry.core.errors import Conflict, HttpError, InvalidInput, NotFound, TrustError
from wherry.core.http import HttpClient
from wherry.device.paths import DevicePaths
from wherry.device.points import Point, reach
from wherry.spec.codec import decode, encode
from wherry.spec.wire import DEVICE_API, DeviceState, EnrolAnswer, EnrolRequest
from wherry.trust.keys import PrivateKey, PublicKey

FORMAT = 1
MAX_IDENTITY_BYTES = 64 * 1024
MAX_TRUSTED_KEYS = 16
ID_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """``identity.json``."""

    format: int
    device_id: str
    hub: str
    trusted_keys: tuple[str, ...]
    """The owner's Ed25519 public keys, base64."""
    name: str = ""
    target: str = ""
    ca_file: str | None = None
    """The only certificate authority that the hub's certificate may come from; None takes the system's."""
    extra: Mapping[str, object] = field(default_factory=dict)

    def keys(self) -> tuple[PublicKey, ...]:
        """Returns the trusted keys.

        Raises:
            InvalidInput: one is malformed.
        """
        return tuple(PublicKey.from_base64(text, where="trusted_keys") for text in self.trusted_keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What a person gives to enrol a device."""

    hub: str
    token: str
    trusted_keys: Sequence[PublicKey]
    name: str = ""
    target: str = ""
    ca_file: Path | None = None


def device_id_of(key: PublicKey) -> str:
    """Returns the id of the device with this key: 32 hex digits."""
    return key.key_id[:ID_DIGITS]


def load_identity(paths: DevicePaths) -> Identity:
    """Returns who the device is.

    Raises:
        NotFound: it was never enrolled.
        InvalidInput: the file is malformed, or does not belong to the key beside it.
    """
    try:
        data = paths.identity.read_bytes()
    except FileNotFoundError:
        raise NotFound(
            "no device is enrolled here", where=paths.root, hint="run `wherry device enroll --hub URL --trust KEYFILE`"
        ) from None
    except OSError as error:
        raise durable.map_os_error(error, "cannot read the device's identity", where=paths.identity) from error
    identity = decode(
        Identity, jsonio.loads(data, where=paths.identity, max_bytes=MAX_IDENTITY_BYTES), where=paths.identity
    )
    if identity.format != FORMAT:
        raise InvalidInput(f"identity format {identity.format} is not {FORMAT}", where=paths.identity)
    return identity


def load_key(paths: DevicePaths, identity: Identity) -> PrivateKey:
    """Returns the device's key.

    Raises:
        InvalidInput: it is not the key that the device was enrolled with.
    """
    key = PrivateKey.load(paths.key)
    if device_id_of(key.public) != identity.device_id:
        raise InvalidInput(
            "the device's key is not the one it was enrolled with",
            where=paths.key,
            hint="put the old key back, or enrol again in an empty folder",
        )
    return key


def enrol(paths: DevicePaths, wanted: Enrolment) -> tuple[Identity, DeviceState]:
    """Makes a device of a folder: makes its key, tells the hub, and pins whom it trusts.

    Run again after it was cut short, it goes on; run again after it was done, it says so.

    Returns:
        The identity, and how the device stands with the hub; most hubs have a person accept it first.

    Raises:
        Conflict: the folder holds a device that is enrolled with another hub or with other keys.
        TrustError: no key to trust is given, or the hub does not take the token.
        NetworkError: the hub cannot be reached.
    """
    if not 1 <= len(wanted.trusted_keys) <= MAX_TRUSTED_KEYS:
        raise TrustError(
            f"a device trusts 1 to {MAX_TRUSTED_KEYS} keys, not {len(wanted.trusted_keys)}",
            hint="give the owner's public key with --trust KEYFILE",
        )
    trusted = tuple(key.base64 for key in wanted.trusted_keys)
    if paths.identity.exists():
        _same_or_conflict(load_identity(paths), wanted, trusted, paths)
    durable.make_dirs(paths.root, mode=0o700)
    if not paths.key.exists():
        PrivateKey.generate().save(paths.key)
    reach(Point.KEY_WRITTEN)
    key = PrivateKey.load(paths.key)
    answer = _ask(wanted, key.public)
    reach(Point.ENROL_ANSWERED)
    if answer.device_id != device_id_of(key.public):
        raise InvalidInput("the hub gives the device an id that is not its key's", where=wanted.hub)
    identity = Identity(
        format=FORMAT,
        device_id=answer.device_id,
        hub=wanted.hub.rstrip("/"),
        trusted_keys=trusted,
        name=wanted.name,
        target=wanted.target,
        ca_file=None if wanted.ca_file is None else str(wanted.ca_file.absolute()),
    )
    durable.write_file(paths.identity, jsonio.canonical(encode(identity)), mode=0o600)
    reach(Point.IDENTITY_WRITTEN)
    return identity, answer.state


def _ask(wanted: Enrolment, public: PublicKey) -> EnrolAnswer:
    request = EnrolRequest(
        token=wanted.token, public_key=public.base64, name=wanted.name, target=wanted.target, facts=_facts()
    )
    client = HttpClient(wanted.hub, ca_file=wanted.ca_file)
    try:
        # the same key again is the same device to the hub, so it is safe to repeat
        answer = client.json("POST", f"{DEVICE_API}/enroll", encode(request), repeat=True)
    except HttpError as error:
        if error.status in (401, 403):
            raise TrustError(
                f"the hub does not take the enrolment token: {error.detail or error.what}",
                where=wanted.hub,
                hint="make a new one on the hub, and enrol again",
            ) from error
        raise
    finally:
        client.close()
    return decode(EnrolAnswer, answer, where=wanted.hub)


def _facts() -> dict[str, str]:
    facts = platform.uname()
    return {"hostname": facts.node, "machine": facts.machine, "kernel": f"{facts.system} {facts.release}"}


def _same_or_conflict(old: Identity, wanted: Enrolment, trusted: tuple[str, ...], paths: DevicePaths) -> None:
    if old.hub != wanted.hub.rstrip("/"):
        raise Conflict(
            f"this device is enrolled with {old.hub}", where=paths.root, hint="use another --dir, or remove this one"
        )
    if old.trusted_keys != trusted:
        raise Conflict(
            "this device is enrolled with other trusted keys",
            where=paths.root,
            hint="use another --dir, or remove this one",
        )
