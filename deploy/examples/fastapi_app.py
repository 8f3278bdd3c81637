"""FastAPI.  Run: uvicorn --no-proxy-headers fastapi_app:app"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse

from gatekeeper.integrations import Identity, User, Verifier
from gatekeeper.integrations.fastapi import current_identity, current_user, install, require_user

app = FastAPI()
install(app, Verifier(os.environ["GATEKEEPER_ISSUER"], jwks_url=os.environ.get("GATEKEEPER_JWKS")))


@app.get("/", response_class=PlainTextResponse)
def hello(user: Annotated[User | None, Depends(current_user)]) -> str:
    return f"Hello {user.id if user else 'nobody'}"


@app.get("/dashboard", response_class=PlainTextResponse)
def dashboard(user: Annotated[User, Depends(require_user)]) -> str:
    return f"Hello {user.id}"


@app.get("/api/me", dependencies=[Depends(require_user)])
def me(identity: Annotated[Identity, Depends(current_identity)]) -> dict:
    return identity.to_document()
