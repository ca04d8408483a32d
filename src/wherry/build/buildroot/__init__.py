"""Hosts that Buildroot builds, from a tree of it that the user has."""
