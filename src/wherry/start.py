"""What the launcher (``bin/wherry``) runs in a bare interpreter: ``start.py NAME ARGUMENT...``.

Not imported by anything. It finds the package beside itself, as a bare interpreter knows no folder of packages.
"""

import gc
import sys

gc.disable()  # loading modules makes much and throws nothing away; what lives long turns it on again (cli.main)
sys.path.insert(0, __file__.rsplit("/", 2)[0])
del sys.argv[0]

from wherry import warm  # noqa: E402 the path comes first

what = warm.what(sys.argv)
if what == "runtime-exec":  # which may begin anew with another interpreter: as little as can be is loaded before that
    warm.install("protecting")
    from wherry.cli.protecting import protect_interpreter

    protect_interpreter()
warm.install(what)
from wherry.cli.main import main  # noqa: E402 after the modules that are here already

main()
