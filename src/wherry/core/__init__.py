"""What every package stands on: errors, digests, durable writes, locks, subprocesses, HTTP, progress."""
