"""The version, alone in a file so that printing it costs no other import."""

__version__ = "0.1.0"
