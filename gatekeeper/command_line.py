"""What every command needs: the configuration, a loop to run in, and a way to fail with a message."""

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import click

from gatekeeper.config.load import ConfigError, load_file
from gatekeeper.config.schema import Settings
from gatekeeper.core.errors import GatekeeperError

CONFIG = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("config.yaml"),
    show_default=True,
    help="The configuration file.",
)


def load(config: Path) -> Settings:
    """The settings of this file.  Ends the program, with every problem on standard error, where it has one."""
    try:
        return load_file(config, os.environ)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        fail(f"{config} cannot be used; nothing was started")


def run_to_end(work: Coroutine[Any, Any, Any]) -> Any:
    """What this gives.  Ends the program with the message of a GatekeeperError, and on Ctrl-C."""
    try:
        if sys.platform == "win32":
            return asyncio.run(work)
        import uvloop

        return uvloop.run(work)
    except GatekeeperError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def set_up_logging(level: str) -> None:
    """Lines from this level on go to standard error, in place of whatever was set up before."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def fail(message: str) -> NoReturn:
    """End the program with this message: exit status 1."""
    click.secho(f"gatekeeper: {message}", fg="red", err=True)
    sys.exit(1)
