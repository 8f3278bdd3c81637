"""The sample app of `gatekeeper demo` by itself, to stand behind a gate in a container of its own.

HOST, PORT, DATABASE and BETTER_AUTH_SECRET come from the environment.  A missing database is made, with two users.
"""

import os
import time
from pathlib import Path

from aiohttp import web

from gatekeeper.core.cookies import Keys
from gatekeeper.demo.app import make_app
from gatekeeper.demo.database import Database


def main() -> None:
    path = Path(os.environ["DATABASE"])
    database = Database(path) if path.exists() else Database.create(path, time.time_ns() // 1_000_000)
    app = make_app(database, Keys([os.environ["BETTER_AUTH_SECRET"]]))
    web.run_app(app, host=os.environ["HOST"], port=int(os.environ["PORT"]), access_log=None)


main()
