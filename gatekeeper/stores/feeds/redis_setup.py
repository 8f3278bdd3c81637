"""Having a Redis tell of what changes in it: what is set, and what is taken back.

The setting is the whole server's, and others may have set letters of it for themselves.  So letters are added, never
taken away, and all of it is taken back only where it is just what would have been set where nothing was.
"""

from collections.abc import Sequence

from gatekeeper.config.redis_url import RedisAddress
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.stores.feeds.keyspace import NEEDED, SETTING, missing_from
from gatekeeper.stores.protocol import TIMEOUT_S
from gatekeeper.stores.redis_connections import Command
from gatekeeper.stores.redis_link import Answer, RedisLink, Refusal


def commands(*, undo: bool) -> list[str]:
    """What `apply` sends where nothing was set, as one would type it at redis-cli.

    The first one shows what is set: letters that stand there already belong into the second one, too.
    """
    flags = "" if undo else NEEDED
    return [f"CONFIG GET {SETTING}", f'CONFIG SET {SETTING} "{flags}"', "CONFIG REWRITE"]


async def apply(address: RedisAddress, *, undo: bool) -> list[str]:
    """Set what is missing, or take it back; returns lines that say what was done.

    Raises GatekeeperError where the server cannot be reached, does not know the setting or refuses to change it.
    """
    link = RedisLink(address, TIMEOUT_S)
    try:
        setup = _Setup(address.label, link)
        return await (setup.take_back() if undo else setup.add())
    finally:
        await link.close()


class _Setup:
    def __init__(self, label: str, link: RedisLink) -> None:
        self._label = label
        self._link = link

    async def add(self) -> list[str]:
        flags = await self._read()
        missing = missing_from(flags)
        if not missing:
            return [f"{self._label}: {SETTING} is {flags} already"]
        await self._write(flags + missing)
        # Read again: a service may accept what it does not do.
        after = await self._read()
        if missing_from(after):
            raise GatekeeperError(f"{self._label}: {SETTING} was set, and is {_shown(after)} all the same")
        return [f"{self._label}: {SETTING} was {_shown(flags)}, is now {after}", *await self._keep(after)]

    async def take_back(self) -> list[str]:
        flags = await self._read()
        if not flags:
            return [f"{self._label}: {SETTING} is empty already"]
        if set(flags) != set(NEEDED):
            return [f"{self._label}: {SETTING} is {flags} and stays so: not all of it was set for the gate"]
        await self._write("")
        return [f"{self._label}: {SETTING} was {flags}, is now empty", *await self._keep("")]

    async def _read(self) -> str:
        match await self._ask("CONFIG GET", ("CONFIG", "GET", SETTING)):
            case [_, bytes(flags)]:
                return flags.decode("ascii", "replace")
            case _:
                raise GatekeeperError(f"{self._label} has no setting {SETTING}: it cannot tell of what changes in it")

    async def _write(self, flags: str) -> None:
        await self._ask("CONFIG SET", ("CONFIG", "SET", SETTING, flags))

    async def _keep(self, flags: str) -> Sequence[str]:
        """Have it survive a restart, where the server has a file to write it to."""
        answer = await self._one(("CONFIG", "REWRITE"))
        if not isinstance(answer, Refusal):
            return [f"{self._label}: its configuration file has it, too"]
        return [
            f"{self._label}: its configuration file could not be written ({answer.text}): for the setting to outlive a "
            f'restart, put `{SETTING} "{flags}"` into redis.conf'
        ]

    async def _ask(self, name: str, command: Command) -> Answer:
        answer = await self._one(command)
        if isinstance(answer, Refusal):
            raise GatekeeperError(
                f"{self._label}: {name} was refused ({answer.text}): the Redis user needs the rights +config|get "
                f"+config|set +config|rewrite; a hosted Redis has {SETTING} among its own settings, set it to {NEEDED}"
            )
        return answer

    async def _one(self, command: Command) -> Answer:
        [answer] = await self._link.ask([command])
        return answer


def _shown(flags: str) -> str:
    return flags or "empty"
