"""Wherry's own device delta: all that some commits need beyond others, in one stream."""
