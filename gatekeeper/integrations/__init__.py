"""For the app behind the gate: who is asking, verified, in a form that each framework knows.

`asgi`, `wsgi`, `aiohttp`, `fastapi` and `django` give the same `User` and `Session`.  Beside the framework only PyJWT
with cryptography is needed: nothing of the gate's server, stores or configuration is imported.
"""

from gatekeeper.integrations.assertion import Verifier as Verifier
from gatekeeper.integrations.model import Identity as Identity
from gatekeeper.integrations.model import Reason as Reason
from gatekeeper.integrations.model import Session as Session
from gatekeeper.integrations.model import User as User
