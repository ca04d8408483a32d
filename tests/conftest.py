"""What all tests have: the profile of Hypothesis for long runs, and a Ctrl-C that reaches what they start."""

from __future__ import annotations

import signal

from hypothesis import settings
from tests.fixtures.examples import DEEP

settings.register_profile(DEEP, deadline=None)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell that puts a suite in the background ignores it, and every program started from there would, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
