"""``python -m wherry``: the same as the ``wherry`` command."""

from wherry.cli.main import main

if __name__ == "__main__":
    main()
