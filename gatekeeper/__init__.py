"""gatekeeper: who is asking, and may they?  A session-verifying reverse proxy and forward-auth sidecar."""

__version__ = "0.1.0"
