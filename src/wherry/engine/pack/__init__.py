"""Packed apps: one executable file with just the files that a command needs."""
