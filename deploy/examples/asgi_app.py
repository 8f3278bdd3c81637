"""Plain ASGI.  Run: uvicorn --no-proxy-headers asgi_app:app"""

import os

from gatekeeper.integrations import Verifier
from gatekeeper.integrations.asgi import Gatekeeper, user

verifier = Verifier(os.environ["GATEKEEPER_ISSUER"], jwks_url=os.environ.get("GATEKEEPER_JWKS"))


async def hello(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": f"Hello {user(scope).id}".encode()})


app = Gatekeeper(hello, verifier, require=True)
