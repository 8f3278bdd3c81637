"""A PostgreSQL server with one database, `auth`, and one user, `gate`, who may do everything there."""

import signal
from pathlib import Path

from tests.servers.processes import Server

PASSWORD = "p@ss/word"  # needs escaping in a URL
_ESCAPED = "p%40ss%2Fword"


class PostgresServer(Server):
    """`url` is the database's, as the gate's configuration has it."""

    program = "postgres"
    account = "postgres"
    stop_signal = signal.SIGINT
    ready_text = "database system is ready to accept connections"

    @property
    def url(self) -> str:
        return f"postgresql://gate:{_ESCAPED}@127.0.0.1:{self.port}/auth"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        initdb = Path(self.path).with_name("initdb")
        how = ["--username=gate", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        self.run([str(initdb), "-D", str(self._data), "--no-sync", *how])
        self.run_single('create database "auth"')

    def run_single(self, sql: str) -> None:
        """Execute one statement without starting the server."""
        script = self.folder / "single.sql"
        script.write_text(sql)
        self.run(["/bin/sh", "-c", f'exec "{self.path}" --single -D "{self._data}" postgres < "{script}"'])

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "off",
            "logging_collector": "off",
        }
        return [self.path, "-D", str(self._data), *(f"--{name}={value}" for name, value in settings.items())]
