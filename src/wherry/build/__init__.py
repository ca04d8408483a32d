"""Builds of hosts: layers, and what becomes of them."""
