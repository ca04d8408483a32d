"""Containers from images: root tree, network, volumes, logs and supervision, without a daemon."""
