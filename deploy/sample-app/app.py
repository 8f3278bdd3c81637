"""The sample app of `gatekeeper demo` by itself, to stand behind a gate in a container of its own.

HOST and PORT come from the environment.
"""

import os

from aiohttp import web

from gatekeeper.demo.app import make_app

web.run_app(make_app(), host=os.environ["HOST"], port=int(os.environ["PORT"]), access_log=None)
