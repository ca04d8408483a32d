"""Hosts built, and chains of layers resolved, beside the tools and scripts that people use for it."""
