"""What all tests have: the profile of Hypothesis for long runs."""

from __future__ import annotations

from hypothesis import settings
from tests.fixtures.examples import DEEP

settings.register_profile(DEEP, deadline=None)
