"""`python -m dev`: what `make run` executes; `python -m dev engine`: what `make engine` executes."""

import signal
import sys

# Ctrl-C while the modules load ends it at once; nothing is started yet that wants to be stopped in order.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from dev.serve import main  # noqa: E402 - after the signal is set

sys.exit(main(engine_alone=sys.argv[1:] == ["engine"]))
