"""Who hears of what."""

from __future__ import annotations

import asyncio

import pytest

from wherry.hub import broker as module
from wherry.hub.broker import Broker, Event


def event(key: str, value: int = 0) -> Event:
    return Event(name="device", key=key, data={"n": value})


def test_newer_events_take_the_place_of_older_ones() -> None:
    async def main() -> None:
        broker = Broker()
        broker.attach(asyncio.get_running_loop())
        with broker.user("ann") as stream:
            for number in range(100):
                broker.publish(event("a", number))
            broker.publish(event("b"))
            await asyncio.sleep(0)
            found = await stream.take(1)
            assert [(one.key, one.data["n"]) for one in found] == [("a", 99), ("b", 0)]
            assert await stream.take(0.01) == []
        broker.publish(event("a"))  # nobody there

    asyncio.run(main())


def test_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_KEYS", 5)
    monkeypatch.setattr(module, "MAX_STREAMS_PER_SUBJECT", 2)

    async def main() -> None:
        broker = Broker()
        broker.attach(asyncio.get_running_loop())
        with broker.user("ann") as first, broker.user("ann") as second, broker.user("bob") as other:
            with broker.user("ann"):
                assert (first.closed, second.closed, other.closed) == (True, False, False)
            for number in range(20):
                broker.publish(event(str(number)))
            await asyncio.sleep(0)
            assert len(await other.take(1)) == 5

    asyncio.run(main())


def test_one_stream_for_each_device_and_its_presence() -> None:
    heard: list[str] = []

    async def main() -> None:
        broker = Broker(on_presence=heard.append)
        broker.attach(asyncio.get_running_loop())
        with broker.device("d") as first:
            with broker.device("d") as second:
                assert (first.closed, second.closed) == (True, False)
                broker.ring("d", event("x"))
                await asyncio.sleep(0)
                assert len(await second.take(1)) == 1
            assert not broker.has_device("d")
        assert heard == ["d", "d", "d"]
        with broker.device("d") as third:
            broker.close()
            assert third.closed
        with broker.device("d") as late:
            assert late.closed

    asyncio.run(main())


def test_versions_tell_changes_apart() -> None:
    broker = Broker()
    first = broker.version
    broker.mention(event("a"))
    assert broker.version == first
    broker.publish(event("a"))
    assert broker.version != first
    assert Broker().version != Broker().version


def test_encoding() -> None:
    assert event("a", 1).encode() == b'event: device\ndata: {"n":1}\n\n'
