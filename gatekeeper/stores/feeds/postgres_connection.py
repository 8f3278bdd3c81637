"""One connection to PostgreSQL of its own, for what no pool can do: to listen, and to change the schema.

The only place here that knows the driver, which is not installed everywhere and has no types.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from gatekeeper.config.server_url import ServerUrl
from gatekeeper.core.errors import StoreUnavailable
from gatekeeper.stores.servers import CLOSE_S, asyncpg_arguments


class PostgresError(StoreUnavailable):
    """The server refused, or could not be reached.  `state` is its SQLSTATE, empty where it did not answer."""

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message)
        self.state = state


class PostgresConnection:
    """A connection that is open.  `label` is what messages call its server; every call raises PostgresError.

    Who is cancelled leaves at once; what it asked is then unanswered, and the connection fit to be ended.
    """

    def __init__(self, driver: Any, connection: Any, label: str) -> None:
        self._driver = driver
        self._connection = connection
        self._label = label

    @classmethod
    async def open(cls, url: ServerUrl, timeout_s: float) -> "PostgresConnection":
        """Connect to the primary, as the store's pool does.  GatekeeperError where the driver is not installed."""
        arguments = asyncpg_arguments(url, timeout_s)
        driver = import_module("asyncpg")
        with _translated(driver, url.label, timeout_s):
            return cls(driver, await driver.connect(**arguments), url.label)

    @property
    def version(self) -> int:
        """The server's major version."""
        major: int = self._connection.get_server_version().major
        return major

    async def execute(self, sql: str) -> None:
        """Execute one statement, or several without parameters."""
        with _translated(self._driver, self._label):
            await self._connection.execute(sql)

    async def row(self, sql: str, *values: object) -> Sequence[Any]:
        """The first row.  Values stand at $1 and on."""
        with _translated(self._driver, self._label):
            found: Sequence[Any] = await self._connection.fetchrow(sql, *values)
            return found

    async def listen(self, channel: str, hear: Callable[[str], None]) -> None:
        """From now on tell this the payload of each notification on the channel."""

        def pass_on(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            hear(payload)

        with _translated(self._driver, self._label):
            await self._connection.add_listener(channel, pass_on)

    def on_end(self, call: Callable[[], None]) -> None:
        """Call this when the connection has ended, whoever ended it."""

        def pass_on(_connection: object) -> None:
            call()

        self._connection.add_termination_listener(pass_on)

    def end(self) -> None:
        """End it without a word.  Safe at any time, also twice."""
        self._connection.terminate()

    async def close(self) -> None:
        """Say farewell, to a server that is silent for `CLOSE_S` at most."""
        try:
            with _translated(self._driver, self._label):
                await self._connection.close(timeout=CLOSE_S)
        except StoreUnavailable:
            self.end()


@contextmanager
def _translated(driver: Any, label: str, timeout_s: float | None = None) -> Generator[None]:
    """Errors of the driver as PostgresError; `timeout_s` is what a time-out within it stands for."""
    try:
        yield
    except (OSError, EOFError, driver.PostgresError, driver.InterfaceError, driver.InternalClientError) as exc:
        cause = str(exc) or type(exc).__name__
        if isinstance(exc, TimeoutError) and timeout_s is not None:
            cause = f"no answer within {timeout_s:g} s"
        raise PostgresError(f"{label}: {cause}", getattr(exc, "sqlstate", None) or "") from exc
