"""A database on a real server, emptied for a test and written to as Better Auth writes, behind the store's back."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import asyncmy
import asyncpg
from asyncmy.cursors import Cursor

from tests.servers.mariadb import PASSWORD, MariadbServer
from tests.servers.postgres import PostgresServer
from tests.servers.processes import Server

VECTORS = Path(__file__).parents[1] / "vectors"
DATES = frozenset({"expiresAt", "createdAt", "updatedAt", "banExpires"})
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Lab(ABC):
    """One database.  Values are Better Auth's, dates as milliseconds since the epoch."""

    ddl: ClassVar[dict[str, str]]
    server: Server
    url: str
    quote: str

    @abstractmethod
    async def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Execute a statement with `?` where the values go."""

    @abstractmethod
    async def empty(self) -> None:
        """Drop all that is there."""

    @abstractmethod
    def date(self, ms: int) -> datetime:
        """A date as the driver takes it."""

    async def create(self, variant: str = "core") -> None:
        """Empty it, and make the tables of this variant."""
        await self.empty()
        await self.script(self.ddl[variant])

    async def script(self, sql: str) -> None:
        for statement in filter(None, (part.strip() for part in sql.split(";"))):
            await self.execute(statement)

    async def insert(self, table: str, **row: Any) -> None:
        encoded = [
            self.date(value) if name in DATES and isinstance(value, int) else value for name, value in row.items()
        ]
        columns = ", ".join(self.quoted(name) for name in row)
        marks = ", ".join("?" * len(row))
        await self.execute(f"insert into {self.quoted(table)} ({columns}) values ({marks})", encoded)  # noqa: S608

    def quoted(self, name: str) -> str:
        return f"{self.quote}{name}{self.quote}"


class PostgresLab(Lab):
    ddl = json.loads((VECTORS / "postgres-ddl.json").read_text())["ddl"]
    quote = '"'

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.url = server.url

    async def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        parts = sql.split("?") if values else [sql]
        numbered = parts[0] + "".join(f"${number}{part}" for number, part in enumerate(parts[1:], 1))
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(numbered, *values)
        finally:
            await connection.close()

    async def empty(self) -> None:
        await self.script('drop schema if exists "auth" cascade; drop schema public cascade; create schema public')

    def date(self, ms: int) -> datetime:
        return EPOCH + timedelta(milliseconds=ms)


class MariadbLab(Lab):
    ddl = json.loads((VECTORS / "mysql-ddl.json").read_text())["ddl"]
    quote = "`"
    collation = "utf8mb4_bin"

    def __init__(self, server: MariadbServer) -> None:
        self.server = server
        self.url = server.url

    async def execute(self, sql: str, values: Sequence[Any] = (), database: str | None = "auth") -> None:
        connection = await asyncmy.connect(
            host="127.0.0.1",
            port=self.server.port,
            user="gate",
            password=PASSWORD,
            db=database,
            charset="utf8mb4",
            autocommit=True,
        )
        try:
            async with connection.cursor(Cursor) as cursor:
                await cursor.execute(sql.replace("?", "%s") if values else sql, tuple(values) or None)
        finally:
            connection.close()

    async def empty(self) -> None:
        await self.execute("drop database auth", database=None)
        await self.execute(f"create database auth collate {self.collation}", database=None)

    def date(self, ms: int) -> datetime:
        """The clock of UTC, which is what the server's sessions have."""
        return (EPOCH + timedelta(milliseconds=ms)).replace(tzinfo=None)
