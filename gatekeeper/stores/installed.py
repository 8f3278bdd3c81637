"""Libraries that only some stores need."""

from importlib.util import find_spec

from gatekeeper.core.errors import GatekeeperError


def require(library: str, extra: str) -> None:
    """Say so at the start, rather than at the first request, where a library is not installed.

    Raises GatekeeperError, which names the extra that installs it.
    """
    if find_spec(library) is None:
        raise GatekeeperError(f"store: {library} is not installed: pip install 'gatekeeper[{extra}]'")
