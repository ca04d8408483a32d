"""Prints a reading at every interval, as a sensor would."""

import os
import time

interval_s = float(os.environ.get("INTERVAL_S", "1"))
started = time.monotonic()
while True:
    print(f"reading {20 + (time.monotonic() - started) % 5:.1f} C", flush=True)
    time.sleep(interval_s)
