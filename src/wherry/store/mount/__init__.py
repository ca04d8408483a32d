"""A commit as a mounted tree: an EROFS image of its names over the repository's objects."""
