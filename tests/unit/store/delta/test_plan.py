"""The cheapest way is taken, and the next one when it does not lead there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.store.delta.pairs import BytesOrigin, Pair, apply, program, whole

from wherry.core.errors import IntegrityError, NetworkError
from wherry.store.delta.apply import apply_delta
from wherry.store.delta.format import parse_head
from wherry.store.delta.plan import Offer, Way, delta_offer, follow, plan
from wherry.store.pull.pull import pull_local


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    old = {"a": program(1, 20_000)}
    return Pair(tmp_path_factory.mktemp("plan"), old, old | {"b": program(2, 3000)})


@pytest.fixture(scope="module")
def delta(pair: Pair) -> bytes:
    return pair.make()


def test_fewest_bytes(pair: Pair, delta: bytes) -> None:
    repo = pair.device()
    head = parse_head(delta, where="x")
    offers = [
        Offer(way=Way.OBJECTS, size=2000, requests=20),
        Offer(way=Way.PACK, size=9000),
        delta_offer(repo, head),
    ]
    assert [offer.way for offer in plan(repo, offers).offers] == [Way.DELTA, Way.PACK, Way.OBJECTS]
    cheap = plan(repo, [*offers, Offer(way=Way.PACK, size=100)])
    assert cheap.offers[0].size == 100


def test_what_has_come_counts(pair: Pair, delta: bytes) -> None:
    repo = pair.device()
    head = parse_head(delta, where="x")
    with pytest.raises(ConnectionError):
        apply(repo, BytesOrigin(delta, stop=len(delta) - 10))
    assert delta_offer(repo, head).size == 10


def test_a_delta_from_elsewhere_is_refused(pair: Pair, delta: bytes) -> None:
    repo = pair.device(empty=True)
    route = plan(repo, [delta_offer(repo, parse_head(delta, where="x")), Offer(way=Way.PACK, size=99_999_999)])
    assert [offer.way for offer in route.offers] == [Way.PACK]
    assert "starts from a commit" in route.refused[0].why


def test_falls_back(pair: Pair, delta: bytes, tmp_path: Path) -> None:
    repo = pair.device()
    head = parse_head(delta, where="x")
    damaged = delta[:-20] + bytes(20)

    def go(offer: Offer) -> None:
        if offer.way is Way.DELTA:
            apply_delta(repo, head, BytesOrigin(damaged))
        else:
            pull_local(repo, pair.repo, [pair.new])

    route = plan(repo, [delta_offer(repo, head), Offer(way=Way.OBJECTS, size=9_999_999, requests=3)])
    taken, failed = follow(route.offers, go)
    assert taken.way is Way.OBJECTS
    assert "damaged" in failed[0].why
    assert whole(repo, pair.new)


def test_other_errors_are_not_the_deltas(pair: Pair, delta: bytes) -> None:
    offers = [Offer(way=Way.DELTA, size=1), Offer(way=Way.PACK, size=2)]

    def no_link(offer: Offer) -> None:
        raise NetworkError("the link is down")

    with pytest.raises(NetworkError):
        follow(offers, no_link)

    def damaged(offer: Offer) -> None:
        raise IntegrityError("damaged")

    with pytest.raises(IntegrityError):
        follow(offers, damaged)
