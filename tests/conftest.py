"""What all tests have: the profile of Hypothesis for long runs, and a Ctrl-C that reaches what they start."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings
from tests.fixtures.examples import DEEP

# how long an example takes says something of the machine, and nothing of the code
_ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(DEEP, _ANY_SPEED)
settings.register_profile("suite", _ANY_SPEED)
settings.load_profile("suite")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell that puts a suite in the background ignores it, and every program started from there would, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
