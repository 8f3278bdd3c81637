"""FastAPI.  Run: uvicorn --no-proxy-headers fastapi_app:app"""

import os
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse

from gatekeeper.integrations import User, Verifier
from gatekeeper.integrations.fastapi import install, require_user

app = FastAPI()
install(app, Verifier(os.environ["GATEKEEPER_ISSUER"], jwks_url=os.environ.get("GATEKEEPER_JWKS")))


@app.get("/", response_class=PlainTextResponse)
def hello(user: Annotated[User, Depends(require_user)]) -> str:
    return f"Hello {user.id}"
