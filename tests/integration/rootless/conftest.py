"""A user for the session, with subordinate ids and without, checked for leftovers after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.rootless.user import User, make_user


@pytest.fixture(scope="session")
def _with_ranges() -> Iterator[User]:
    with make_user() as found:
        yield found


@pytest.fixture(scope="session")
def _without_ranges() -> Iterator[User]:
    with make_user(ranges=False) as found:
        yield found


@pytest.fixture
def user(_with_ranges: User) -> Iterator[User]:
    yield _with_ranges
    _with_ranges.remove_all()
    _with_ranges.wait_for_nobody()


@pytest.fixture
def single(_without_ranges: User) -> Iterator[User]:
    yield _without_ranges
    _without_ranges.remove_all()
    _without_ranges.wait_for_nobody()
