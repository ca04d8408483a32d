"""Hosts from the distribution's packages."""
