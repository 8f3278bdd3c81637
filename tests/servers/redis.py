"""A Redis server without persistence on a timer: what it knows, it saves when it is stopped in peace."""

from tests.servers.processes import Server


class RedisServer(Server):
    """`url` is that of its first database."""

    program = "redis-server"
    account = "redis"
    ready_text = "Ready to accept connections"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        # With a save rule, a server that is stopped writes its file; this one's interval never comes.
        return [self.path, *where, "--save", "100000 1000000", "--appendonly", "no"]
