"""The folder of one device: what lies where. Everything below it belongs to the device and to nobody else.

::

    DIR/
      lock              held by whoever works on the device: agent, apply, rollback, down
      wake              a FIFO: a byte in it has the agent look at once
      request.json      an order given on the device while the agent runs; taken and removed by the agent
      device.key        the device's Ed25519 key, 0600
      identity.json     id, hub, trusted owner keys: written once, at enrolment
      state.json        the state machine's state: the one point of truth
      link.json         sequence numbers, the hub's clock, how the last talk with the hub went
      ballast           a block of disk that is given up so that the state can be written on a full disk
      store/            the repository (bare-user)
      deployments/<commit>/revision.json
      config/<tree>/etc/...   an app's files over the image's /etc, named by the checksum of their tree
      started/<container>     the boot in which a one-shot container was started last
      engine/           containers, volumes, images
      log/              the journal

Not promised: that any file but state.json and identity.json survives in its place between versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wherry.core.digest import Checksum


@dataclass(frozen=True, slots=True)
class DevicePaths:
    """Names in the folder of one device."""

    root: Path

    @property
    def lock(self) -> Path:
        """The lock of whoever works on the device."""
        return self.root / "lock"

    @property
    def wake(self) -> Path:
        """The FIFO that wakes the agent."""
        return self.root / "wake"

    @property
    def request(self) -> Path:
        """The order that waits for the agent."""
        return self.root / "request.json"

    @property
    def key(self) -> Path:
        """The device's private key."""
        return self.root / "device.key"

    @property
    def identity(self) -> Path:
        """Who the device is, and whom it trusts."""
        return self.root / "identity.json"

    @property
    def state(self) -> Path:
        """The state machine's state."""
        return self.root / "state.json"

    @property
    def link(self) -> Path:
        """What the device remembers of its hub."""
        return self.root / "link.json"

    @property
    def ballast(self) -> Path:
        """Disk that is kept for the state."""
        return self.root / "ballast"

    @property
    def store(self) -> Path:
        """The repository."""
        return self.root / "store"

    @property
    def engine(self) -> Path:
        """The engine's root."""
        return self.root / "engine"

    @property
    def deployments(self) -> Path:
        """Revisions laid out."""
        return self.root / "deployments"

    @property
    def config(self) -> Path:
        """Configuration trees laid out."""
        return self.root / "config"

    @property
    def started(self) -> Path:
        """Marks of one-shot containers."""
        return self.root / "started"

    @property
    def log(self) -> Path:
        """The journal's folder."""
        return self.root / "log"

    def deployment(self, revision: Checksum) -> Path:
        """The folder of one deployment."""
        return self.deployments / revision

    def config_tree(self, tree: Checksum) -> Path:
        """The lower directory of one configuration tree."""
        return self.config / tree
