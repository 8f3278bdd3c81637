"""Databases with Better Auth's tables, for tests of accounts, looked at behind the gate's back as their drivers do."""

import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncmy
import asyncpg
from asyncmy.cursors import DictCursor

from tests.better_auth_db import create_database, execute
from tests.servers.labs import MariadbLab, PostgresLab
from tests.servers.mariadb import PASSWORD


class AccountPlace(ABC):
    """`quote` stands around names.  `url` is as the configuration has it."""

    url: str
    quote = '"'

    schema_query: str
    """Every column of every table, in order: table first, name second."""

    @abstractmethod
    async def empty(self) -> None:
        """Take everything away."""

    @abstractmethod
    async def create(self, variant: str) -> None:
        """Make the tables of this variant of Better Auth's own DDL, and the table of counts, and nothing else."""

    @abstractmethod
    async def fetch(self, sql: str) -> list[dict[str, Any]]:
        """Rows as the driver gives them."""

    @abstractmethod
    async def execute(self, sql: str) -> None: ...

    async def rows(self, table: str) -> list[dict[str, Any]]:
        """Every row of the table."""
        return await self.fetch(f"select * from {self.quoted(table)}")  # noqa: S608

    async def schema(self) -> dict[str, list[tuple[Any, ...]]]:
        """By table, what the database says of each of its columns."""
        found: dict[str, list[tuple[Any, ...]]] = {}
        for row in await self.fetch(self.schema_query):
            table, *described = row.values()
            found.setdefault(table, []).append(tuple(described))
        return found

    def quoted(self, name: str) -> str:
        return f"{self.quote}{name}{self.quote}"

    async def set_all(self, table: str, column: str, value: str) -> None:
        """Give this column of every row this value."""
        await self.execute(f"update {self.quoted(table)} set {self.quoted(column)} = '{value}'")  # noqa: S608

    async def count(self, table: str) -> int:
        return len(await self.rows(table))


class SqliteAccounts(AccountPlace):
    schema_query = "select name, sql from sqlite_master where type = 'table' and name not like 'sqlite%' order by name"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"

    async def empty(self) -> None:
        self.path.unlink(missing_ok=True)

    async def create(self, variant: str) -> None:
        await self.empty()
        create_database(self.path, variant)
        execute(self.path, ATTEMPTS)

    async def fetch(self, sql: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql)]

    async def execute(self, sql: str) -> None:
        execute(self.path, sql)


class PostgresAccounts(AccountPlace):
    schema_query = (
        "select table_name, column_name, udt_name, is_nullable, column_default, character_maximum_length, "
        "datetime_precision from information_schema.columns where table_schema = 'public' "
        "order by table_name, ordinal_position"
    )

    def __init__(self, lab: PostgresLab) -> None:
        self.lab = lab
        self.url = lab.url

    async def empty(self) -> None:
        await self.lab.empty()

    async def create(self, variant: str) -> None:
        await self.lab.create(variant)
        await self.lab.execute(ATTEMPTS)

    async def fetch(self, sql: str) -> list[dict[str, Any]]:
        connection = await asyncpg.connect(self.url)
        try:
            return [dict(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    async def execute(self, sql: str) -> None:
        await self.lab.execute(sql)


class MariadbAccounts(AccountPlace):
    quote = "`"
    schema_query = (
        "select table_name, column_name, column_type, is_nullable, column_default, column_key, extra "
        "from information_schema.columns where table_schema = 'auth' order by table_name, ordinal_position"
    )

    def __init__(self, lab: MariadbLab) -> None:
        self.lab = lab
        self.url = lab.url

    async def empty(self) -> None:
        await self.lab.empty()

    async def create(self, variant: str) -> None:
        await self.lab.create(variant)
        await self.lab.execute(ATTEMPTS)

    async def fetch(self, sql: str) -> list[dict[str, Any]]:
        connection = await asyncmy.connect(
            host="127.0.0.1", port=self.lab.server.port, user="gate", password=PASSWORD, db="auth", charset="utf8mb4"
        )
        try:
            async with connection.cursor(DictCursor) as cursor:
                await cursor.execute(sql)
                return list(await cursor.fetchall())
        finally:
            connection.close()

    async def execute(self, sql: str) -> None:
        await self.lab.execute(sql)


ATTEMPTS = (
    "create table gatekeeper_attempt (name varchar(255) not null primary key, count integer not null, "
    "ends bigint not null)"
)
