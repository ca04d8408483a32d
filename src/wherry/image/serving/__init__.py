"""A registry endpoint over the store: what is asked is answered here; ``server.py`` is one way to be asked."""
