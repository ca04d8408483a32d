"""Who hears of what, live: subscriptions of event streams, published to from any thread.

A stream holds a few of the newest events per key, never a growing queue: a reader that is slow sees fewer events, and
misses no key. All state belongs to the event loop; ``publish`` and its kin may be called from anywhere.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from wherry.core import jsonio

MAX_STREAMS_PER_SUBJECT = 32
"""Dashboards that one user may have open; a device has one."""
MAX_WAITING_KEYS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event: its name, JSON value, and the key under which a newer one takes its place."""

    name: str
    key: str
    data: Any

    def encode(self) -> bytes:
        """Returns it as ``text/event-stream`` (WHATWG HTML, section 9.2.6)."""
        return b"event: " + self.name.encode() + b"\ndata: " + jsonio.canonical(self.data) + b"\n\n"


class Stream:
    """The events that wait for one reader."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[tuple[str, str], Event] = OrderedDict()
        self._wake = asyncio.Event()
        self.closed = False

    def put(self, event: Event) -> None:
        """Adds an event, in the place of an older one with its name and key."""
        slot = (event.name, event.key)
        self._waiting.pop(slot, None)
        self._waiting[slot] = event
        if len(self._waiting) > MAX_WAITING_KEYS:
            self._waiting.popitem(last=False)
        self._wake.set()

    def close(self) -> None:
        """Has the reader end."""
        self.closed = True
        self._wake.set()

    async def take(self, timeout_s: float) -> list[Event]:
        """Returns what waits, after at most `timeout_s`; nothing when nothing came."""
        try:
            await asyncio.wait_for(self._wake.wait(), timeout_s)
        except TimeoutError:
            return []
        self._wake.clear()
        events = list(self._waiting.values())
        self._waiting.clear()
        return events


class Broker:
    """All streams of one hub.

    Args:
        on_presence: called in the loop with a device's id when its stream opens or ends.
    """

    def __init__(self, on_presence: Callable[[str], None] = lambda device_id: None) -> None:
        self._on_presence = on_presence
        self._loop: asyncio.AbstractEventLoop | None = None
        self._devices: dict[str, Stream] = {}
        self._users: dict[str, list[Stream]] = {}
        self.closing = False
        self._life = secrets.token_hex(4)
        self._changes = 0
        self._count = threading.Lock()

    @property
    def version(self) -> str:
        """What has changed so far, as one word: equal words mean that nothing changed in between."""
        return f"{self._life}-{self._changes}"

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Names the loop that the streams live in."""
        self._loop = loop
        self.closing = False

    def has_device(self, device_id: str) -> bool:
        """Tells whether a device listens now."""
        return device_id in self._devices

    def publish(self, event: Event) -> None:
        """Sends an event to every dashboard: something changed."""
        with self._count:
            self._changes += 1
        self.mention(event)

    def mention(self, event: Event) -> None:
        """Sends an event to every dashboard that changes nothing on it but a time."""
        self._call(self._to_users, event)

    def ring(self, device_id: str, event: Event) -> None:
        """Sends an event to one device."""
        self._call(self._to_device, device_id, event)

    def drop_device(self, device_id: str) -> None:
        """Ends the stream of a device: it may not listen any more."""
        self._call(self._drop, device_id)

    def drop_user(self, user: str) -> None:
        """Ends the streams of a user's dashboards; each comes back if it still may."""
        self._call(self._drop_user, user)

    def close(self) -> None:
        """Ends every stream, and refuses new ones; called in the loop."""
        self.closing = True
        for stream in [*self._devices.values(), *(one for many in self._users.values() for one in many)]:
            stream.close()

    @contextmanager
    def device(self, device_id: str) -> Iterator[Stream]:
        """Subscribes a device; ends the stream that it had."""
        stream = Stream()
        before = self._devices.get(device_id)
        if before is not None:
            before.close()
        self._devices[device_id] = stream
        if self.closing:
            stream.close()
        self._on_presence(device_id)
        try:
            yield stream
        finally:
            if self._devices.get(device_id) is stream:
                del self._devices[device_id]
                self._on_presence(device_id)

    @contextmanager
    def user(self, user: str) -> Iterator[Stream]:
        """Subscribes a dashboard; with too many of one user the oldest ends."""
        stream = Stream()
        streams = self._users.setdefault(user, [])
        streams.append(stream)
        if self.closing:
            stream.close()
        if len(streams) > MAX_STREAMS_PER_SUBJECT:
            streams[0].close()
        try:
            yield stream
        finally:
            streams.remove(stream)
            if not streams:
                self._users.pop(user, None)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def _to_users(self, event: Event) -> None:
        for streams in self._users.values():
            for stream in streams:
                stream.put(event)

    def _to_device(self, device_id: str, event: Event) -> None:
        stream = self._devices.get(device_id)
        if stream is not None:
            stream.put(event)

    def _drop(self, device_id: str) -> None:
        stream = self._devices.get(device_id)
        if stream is not None:
            stream.close()

    def _drop_user(self, user: str) -> None:
        for stream in self._users.get(user, []):
            stream.close()
