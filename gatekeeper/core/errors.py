"""The family of errors: one root, one branch for each thing that fails.

Expected outcomes of a request are values (`core.model.Decision`), not errors.  No message holds a cookie, a
token or a key.
"""


class GatekeeperError(Exception):
    """Root of every error that gatekeeper raises on purpose."""


class ListenError(GatekeeperError):
    """An address to listen on cannot be had."""


class KeysUnusable(GatekeeperError):
    """The keys that sign assertions cannot be had, or not trusted."""


class StoreError(GatekeeperError):
    """The session store answered with something that cannot be used."""


class StoreUnavailable(StoreError):
    """The session store could not be asked: the gate answers 503 and keeps every cookie."""


class StoreLimited(StoreUnavailable):
    """The session store refuses one visitor for a time; it does answer, and may answer the others."""


class SchemaFault(StoreUnavailable):
    """The database lacks a table or a column that is asked for."""


class MissingTable(SchemaFault):
    """The database has no table for sessions, nor was one named: perhaps they are kept elsewhere alone."""


class UpstreamError(GatekeeperError):
    """The app behind the gate could not be asked, or answered with something that is not HTTP."""


class UpstreamRefused(UpstreamError):
    """No connection to the upstream could be opened."""


class UpstreamTimeout(UpstreamError):
    """The upstream did not connect or answer within its time."""


class UpstreamProtocolError(UpstreamError):
    """The upstream's answer broke HTTP, or ended in the middle."""


class ClientStalled(UpstreamError):
    """The exchange was given up because its client did not keep up while others waited for the app."""
