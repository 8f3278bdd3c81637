"""What the supervisor starts: `python -m gatekeeper.workers CHANNEL worker=N`, the number for who lists processes."""

import sys

from gatekeeper.workers.worker import main

sys.exit(main(sys.argv[1:]))
