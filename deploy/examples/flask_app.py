"""Flask, as any other WSGI app.  Run: python flask_app.py"""

import os

from flask import Flask, request

from gatekeeper.integrations import Verifier
from gatekeeper.integrations.wsgi import Gatekeeper, identity, refusal, user

app = Flask(__name__)
verifier = Verifier(os.environ["GATEKEEPER_ISSUER"], jwks_url=os.environ.get("GATEKEEPER_JWKS"))
app.wsgi_app = Gatekeeper(app.wsgi_app, verifier)


@app.before_request
def guard():
    if request.path != "/" and user(request.environ) is None:
        return refusal(request.environ)
    return None


@app.get("/")
@app.get("/dashboard")
def hello():
    found = user(request.environ)
    return f"Hello {found.id if found else 'nobody'}", {"Content-Type": "text/plain"}


@app.get("/api/me")
def me():
    return identity(request.environ).to_document()


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ.get("PORT", "8000")))
