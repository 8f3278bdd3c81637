"""A MariaDB server with one database, `auth`, and one user, `gate`, who may do everything there."""

from tests.servers.processes import Server, find

PASSWORD = "p@ss/word"  # needs escaping in a URL
_ESCAPED = "p%40ss%2Fword"


class MariadbServer(Server):
    """`url` is the database's, as the gate's configuration has it."""

    program = "mariadbd"
    account = "mysql"
    ready_text = "ready for connections"

    @property
    def url(self) -> str:
        return f"mysql://gate:{_ESCAPED}@127.0.0.1:{self.port}/auth"

    def prepare(self) -> None:
        script = find("mariadb-install-db")
        self.run(
            [script, "--no-defaults", f"--datadir={self.folder / 'data'}", "--auth-root-authentication-method=normal"]
        )
        (self.folder / "init.sql").write_text(
            "create database if not exists auth;\n"
            f"create user if not exists 'gate'@'%' identified by '{PASSWORD}';\n"
            "grant all on *.* to 'gate'@'%';\n"
        )

    def command(self) -> list[str]:
        settings = {
            "datadir": self.folder / "data",
            "socket": self.folder / "socket",
            "pid-file": self.folder / "pid",
            "bind-address": "127.0.0.1",
            "port": self.port,
            "init-file": self.folder / "init.sql",
            "innodb-flush-log-at-trx-commit": 0,
            "skip-name-resolve": "1",
            "skip-log-bin": "1",
        }
        return [self.path, "--no-defaults", *(f"--{name}={value}" for name, value in settings.items())]
