"""The command line: parses, prints, maps errors to exit codes. Nothing else exits or reads the environment."""
