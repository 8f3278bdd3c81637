"""Plain ASGI.  Run: uvicorn --no-proxy-headers asgi_app:app"""

import json
import os

from gatekeeper.integrations import Verifier
from gatekeeper.integrations.asgi import Gatekeeper, identity, refusal, user

verifier = Verifier(os.environ["GATEKEEPER_ISSUER"], jwks_url=os.environ.get("GATEKEEPER_JWKS"))


async def pages(scope, receive, send):
    found = user(scope)
    if scope["path"] != "/" and found is None:
        await refusal(scope)(scope, receive, send)
    elif scope["path"] == "/api/me":
        await answer(send, b"application/json", json.dumps(identity(scope).to_document()))
    else:
        await answer(send, b"text/plain", f"Hello {found.id if found else 'nobody'}")


async def answer(send, kind, text):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": text.encode()})


async def http_alone(scope, receive, send):
    if scope["type"] == "http":
        await pages(scope, receive, send)


app = Gatekeeper(http_alone, verifier)
