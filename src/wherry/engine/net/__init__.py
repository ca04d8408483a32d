"""The parts of container networks; `wherry.engine.network` puts them together."""
