"""Dockerfiles carried out: a stage is a tree of the store, a RUN a container over it."""
