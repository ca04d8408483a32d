"""Reading a Dockerfile and deciding what to do; no input or output besides values. Begin at ``syntax``."""
