"""The commands.  Exit codes: 0 done, 1 refused or failed with a message, 2 wrong usage."""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from gatekeeper import __version__
from gatekeeper.command_line import CONFIG, fail, load, run_to_end, set_up_logging
from gatekeeper.config.load import ConfigError, load_file
from gatekeeper.config.schema import Settings
from gatekeeper.core.errors import GatekeeperError
from gatekeeper.keys_cli import keys
from gatekeeper.users_cli import users

if TYPE_CHECKING:
    from gatekeeper.telemetry.log import Log


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gatekeeper")
def main() -> None:
    """Who is asking, and may they?  A session-verifying reverse proxy that speaks Better Auth's session format."""


@main.command()
@CONFIG
def run(config: Path) -> None:
    """Serve: stand in front of the app and guard what the configuration protects."""
    signal.signal(signal.SIGTERM, _end_while_starting)  # before anything that takes time is imported

    from gatekeeper.server.logs import open_configured_log
    from gatekeeper.telemetry.log import loggers_to
    from gatekeeper.workers.cores import worker_count

    settings = load(config)
    workers = worker_count(settings.workers)
    if workers > 1:
        _run_workers(settings, workers)
        return
    try:
        log = open_configured_log(settings)
    except GatekeeperError as error:
        fail(str(error))
    with closing(log), loggers_to(log, settings.log.level):
        run_to_end(_serve(settings, log))


@main.command()
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
def check(config: Path, as_json: bool) -> None:
    """Check the configuration: every problem at once, with line and column.

    Exit status 0 when there is none, else 1.
    """
    try:
        settings = load_file(config, os.environ)
    except ConfigError as error:
        if as_json:
            click.echo(
                json.dumps({"ok": False, "problems": [problem.as_dict() for problem in error.problems]}, indent=2)
            )
        else:
            for problem in error.problems:
                click.echo(str(problem), err=True)
            count = len(error.problems)
            click.secho(f"{count} problem{'s' if count > 1 else ''} in {config}", fg="red", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps({"ok": True, "problems": []}))
        return
    rules = len(settings.protect) + len(settings.public)
    click.secho(
        f"{config} is fine: {rules} rule{'s' if rules != 1 else ''} in front of {settings.upstream.url}", fg="green"
    )


@main.command()
@CONFIG
@click.option("--ready", is_flag=True, help="Ask whether it can serve, not only whether it lives.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def health(config: Path, ready: bool, as_json: bool) -> None:
    """Ask a running gate whether it is well, for the health checks of containers.

    Asks the listener of `admin.listen`: exit status 0 when it says so within two seconds, else 1.
    """
    from gatekeeper.health import ask_gate  # what only this command needs

    found = ask_gate(config, os.environ, ready=ready)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(found.as_line("ready" if ready else "healthy"), err=not found.ok)
    sys.exit(0 if found.ok else 1)


@main.command()
@click.argument("method")
@click.argument("url")
@CONFIG
@click.option("--cookie", "cookie", help="`-` reads the Cookie header from standard input (arguments leak).")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A further request header.")
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
def explain(method: str, url: str, config: Path, cookie: str | None, headers: tuple[str, ...], as_json: bool) -> None:
    """Tell what the gate would do with a request, by which rule, and why.

    URL is a path, or an absolute URL.  Without an Accept header the request counts as a page navigation.
    """
    from gatekeeper.explain import explain_request  # imports the server, which `check` and `schema` need not load

    if cookie not in (None, "-"):
        raise click.UsageError("--cookie takes only `-`: give the Cookie header on standard input, as arguments leak")
    cookie_header = sys.stdin.read().strip() if cookie == "-" else None
    settings = load(config)
    set_up_logging("error")
    try:
        explanation = run_to_end(explain_request(settings, method, url, cookie_header, headers))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    click.echo(json.dumps(dict(explanation), indent=2) if as_json else _as_lines(explanation))


@main.group()
def sessions() -> None:
    """List the sessions that are stored, and revoke them."""


@sessions.command("list")
@CONFIG
@click.option("--user", metavar="ID_OR_EMAIL", help="Only this user's.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
def list_sessions(config: Path, user: str | None, limit: int, as_json: bool) -> None:
    """List sessions, newest first, without their tokens.  Exit status 1 where there is none."""
    from gatekeeper import sessions_command  # what only this command needs

    settings = load(config)
    set_up_logging("error")
    listing = run_to_end(sessions_command.list_sessions(settings, user, limit, time.time_ns() // 1_000_000))
    if as_json:
        click.echo(json.dumps(sessions_command.documents_of(listing), indent=2))
    elif listing.records:
        click.echo("\n".join(sessions_command.table_of(listing)))
    else:
        click.echo("no sessions", err=True)
    if listing.has_more:
        click.echo(f"these are the newest {limit}; --limit shows more", err=True)
    sys.exit(0 if listing.records else 1)


@sessions.command("revoke")
@click.argument("names", metavar="[TOKEN_OR_ID | -]...", nargs=-1)
@CONFIG
@click.option("--user", metavar="ID_OR_EMAIL", help="All sessions of this user.")
@click.option("--all-but", metavar="TOKEN_OR_ID", help="All sessions of the same user but this one.")
@click.option("--yes", is_flag=True, help="Do not ask before more than one is revoked.")
@click.option("--json", "as_json", is_flag=True, help="Print how many were revoked, and not found, as JSON.")
def revoke_sessions(
    names: tuple[str, ...], config: Path, user: str | None, all_but: str | None, yes: bool, as_json: bool
) -> None:
    """Revoke sessions, by token or id, or all of a user.

    Arguments show in the list of processes: give an id, or `-`, which reads tokens or ids from standard input, one a
    line.  Exit status 1 where nothing was revoked.
    """
    from gatekeeper import sessions_command

    if bool(names) == (user is not None or all_but is not None):
        raise click.UsageError("name sessions, or a user with --user, or the session to keep with --all-but")
    can_ask = "-" not in (*names, all_but) and sys.stdin.isatty()
    wanted, kept = _with_input(names, all_but)
    settings = load(config)
    set_up_logging("error")

    def confirm(count: int) -> bool:
        if yes:
            return True
        if not can_ask:
            raise click.UsageError(f"this revokes {count} sessions: say --yes; nothing was revoked")
        return click.confirm(f"Revoke {count} sessions?", err=True)

    now_ms = time.time_ns() // 1_000_000
    try:
        done = run_to_end(sessions_command.revoke_sessions(settings, wanted, user, kept, now_ms, confirm))
    except sessions_command.Refused:
        fail("nothing was revoked")
    if as_json:
        click.echo(msgspec.json.encode(done))
    else:
        missing = f"; {done.not_found} not found" if done.not_found else ""
        click.echo(f"{done.revoked} session{'' if done.revoked == 1 else 's'} revoked{missing}", err=True)
    sys.exit(0 if done.revoked else 1)


@main.command()
@CONFIG
@click.option("--feed", is_flag=True, help="Let the store tell running gates of revoked sessions and changed users.")
@click.option("--undo", is_flag=True, help="Take away again what was set up.")
@click.option("--print", "is_dry", is_flag=True, help="Print the statements for somebody else to run; change nothing.")
def migrate(config: Path, feed: bool, undo: bool, is_dry: bool) -> None:
    """Prepare the store: in accounts mode its tables, and the feed with them.

    `--feed` sets up triggers in a database, and notifications in Redis, and nothing else.  Either may be run again at
    any time; the feed must be after `store.tables` or `store.columns` changed.
    """
    settings = load(config)
    if not feed:
        if not settings.accounts.enabled:
            raise click.UsageError("say what: --feed is what can be migrated while accounts.enabled is off")
        if undo or is_dry:
            raise click.UsageError("--undo and --print are for --feed: tables of accounts are not taken away")
        run_to_end(_migrate_accounts(settings))
        return
    run_to_end(_migrate_feed(settings, undo=undo, is_dry=is_dry))


main.add_command(users)
main.add_command(keys)


@main.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from gatekeeper.config.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, help="The port, or the next free one after it.")
def demo(host: str, port: int) -> None:
    """Try it: a sample app without any auth behind the gate, without any set-up."""
    from gatekeeper.demo.run import run_demo

    set_up_logging("error")
    run_to_end(run_demo(host, port))


def _with_input(names: tuple[str, ...], all_but: str | None) -> tuple[list[str], str | None]:
    """The same, with the lines of standard input in place of `-`."""
    lines = [line.strip() for line in sys.stdin if line.strip()] if "-" in (*names, all_but) else []
    if all_but == "-":
        if len(lines) != 1:
            raise click.UsageError("--all-but - reads one token or id from standard input")
        all_but = lines[0]
    wanted = [one for name in names for one in (lines if name == "-" else [name])]
    if "" in (*wanted, all_but):
        raise click.UsageError("an empty name names nothing")
    return wanted, all_but


def _end_while_starting(_number: int, _frame: object) -> NoReturn:
    """SIGTERM before the server waits for it.  The kernel drops it where process 1 of a container has no handler."""
    sys.exit(0)


async def _serve(settings: Settings, log: "Log") -> None:
    from gatekeeper.server.app import serve, spare_the_collector, wants_fast_lane

    logger = logging.getLogger("gatekeeper")
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, signals.put_nowait, name)
    async with serve(settings, log, fast_lane=wants_fast_lane(os.environ)) as served:
        spare_the_collector()
        logger.info("listening on %s in front of %s", ", ".join(served.addresses), settings.upstream.url)
        received = await signals.get()
        delay_s = settings.timeouts.drain_delay if received is signal.SIGTERM else 0
        logger.info("%s: finishing what is in flight; once more to stop at once", received.name)
        stopping = asyncio.ensure_future(served.stop(delay_s=delay_s, limit_s=settings.timeouts.drain))
        again = asyncio.ensure_future(signals.get())
        await asyncio.wait((stopping, again), return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, again):
            task.cancel()
        await asyncio.wait((stopping, again))


async def _migrate_accounts(settings: Settings) -> None:
    from gatekeeper.migrate_command import migrate_accounts

    async for line in migrate_accounts(settings):
        click.echo(line)


async def _migrate_feed(settings: Settings, *, undo: bool, is_dry: bool) -> None:
    from gatekeeper.stores.feeds.setup import as_text, set_up  # what only this command needs

    if is_dry:
        click.echo("\n".join(as_text(settings, undo=undo)))
        return
    async for line in set_up(settings, undo=undo):
        click.echo(line)


def _run_workers(settings: Settings, workers: int) -> None:
    from gatekeeper.workers.supervisor import run_workers

    try:
        in_order = run_workers(settings, workers)
    except GatekeeperError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if in_order else 1)


def _as_lines(explanation: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in explanation)
    return "\n".join(f"{click.style(name.ljust(width), bold=True)}  {text}" for name, text in explanation)
