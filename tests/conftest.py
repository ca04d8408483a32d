"""What all tests have: the profile of Hypothesis for long runs, and signals that reach what they start."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings
from tests.fixtures.examples import DEEP

# how long an example takes says something of the machine, and nothing of the code
_ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(DEEP, _ANY_SPEED)
settings.register_profile("suite", _ANY_SPEED)
settings.load_profile("suite")

for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        # a shell that puts a suite in the background ignores the one, nohup the other; so would all that starts here
        signal.signal(_number, _handler)
