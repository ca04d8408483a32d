"""Prints a reading at every interval, as a sensor would, until it is told to stop."""

import os
import signal
import threading

interval_s = float(os.environ.get("INTERVAL_S", "1"))
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
count = 0
while not stop.is_set():
    print(f"reading {20 + count % 7} C", flush=True)
    count += 1
    stop.wait(interval_s)
