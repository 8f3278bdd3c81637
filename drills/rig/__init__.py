"""What the drills share: an app and a gate in processes of their own, a client, and figures.

Not a drill itself: `make drills` runs the files of the folder above.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # drills are run as files, and the tests' database is shared
