"""Flask, as any other WSGI app.  Run: python flask_app.py"""

import os

from flask import Flask, request

from gatekeeper.integrations import Verifier
from gatekeeper.integrations.wsgi import Gatekeeper, user

app = Flask(__name__)
verifier = Verifier(os.environ["GATEKEEPER_ISSUER"], jwks_url=os.environ.get("GATEKEEPER_JWKS"))
app.wsgi_app = Gatekeeper(app.wsgi_app, verifier, require=True)


@app.get("/")
def hello():
    return f"Hello {user(request.environ).id}", {"Content-Type": "text/plain"}


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ.get("PORT", "8000")))
