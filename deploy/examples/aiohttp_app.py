"""aiohttp.  Run: python aiohttp_app.py"""

import os

from aiohttp import web

from gatekeeper.integrations import Verifier
from gatekeeper.integrations.aiohttp import gatekeeper, require_user, user


@require_user
async def hello(request: web.Request) -> web.Response:
    return web.Response(text=f"Hello {user(request).id}")


verifier = Verifier(os.environ["GATEKEEPER_ISSUER"], jwks_url=os.environ.get("GATEKEEPER_JWKS"))
app = web.Application(middlewares=[gatekeeper(verifier)])
app.router.add_get("/", hello)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
