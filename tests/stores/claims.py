"""Claims that count for nothing, for tests of other things."""

from gatekeeper.core.cookies import Keys
from gatekeeper.stores.claims import Claims
from gatekeeper.stores.lease import Lease

NO_CLAIMS = Claims(None, Keys(["a secret that signs nothing here"]), Lease(), lambda: 0.0, lambda: 0)
