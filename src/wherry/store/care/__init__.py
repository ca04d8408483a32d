"""Keeping a repository whole and small: fsck, repair, prune."""
