"""aiohttp.  Run: python aiohttp_app.py"""

import os

from aiohttp import web

from gatekeeper.integrations import Verifier
from gatekeeper.integrations.aiohttp import gatekeeper, identity, require_user, user


async def hello(request: web.Request) -> web.Response:
    found = user(request)
    return web.Response(text=f"Hello {found.id if found else 'nobody'}")


@require_user
async def me(request: web.Request) -> web.Response:
    return web.json_response(identity(request).to_document())


verifier = Verifier(os.environ["GATEKEEPER_ISSUER"], jwks_url=os.environ.get("GATEKEEPER_JWKS"))
app = web.Application(middlewares=[gatekeeper(verifier)])
app.add_routes([web.get("/", hello), web.get("/dashboard", require_user(hello)), web.get("/api/me", me)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
