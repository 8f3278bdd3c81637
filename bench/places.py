"""What one proxy is told: ports and folders."""

from pathlib import Path

import msgspec


class Places(msgspec.Struct, frozen=True):
    """Where one proxy listens (`port`), what is behind it, where it may write, and the sessions' database."""

    port: int
    app: int
    echo: int
    admin: int
    folder: Path
    database: Path
