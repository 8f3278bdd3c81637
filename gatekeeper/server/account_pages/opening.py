"""The pages of a running gate, put together."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from gatekeeper.config.schema import Settings
from gatekeeper.server.account_pages.account_pages import AccountPages
from gatekeeper.server.account_pages.books import AccountBook, AppBook, WriterBook
from gatekeeper.server.account_pages.visit import Frame
from gatekeeper.server.auth_api import AuthApi
from gatekeeper.server.gate import Gate
from gatekeeper.server.known_sessions import KnownSessions
from gatekeeper.server.streams import Streams
from gatekeeper.stores.app_sessions import AppSessions
from gatekeeper.stores.app_sign_out import AppSignOut


@asynccontextmanager
async def open_pages(
    settings: Settings, gate: Gate, streams: Streams, api: AuthApi | None
) -> AsyncGenerator[AccountPages | None]:
    """The pages of these settings until the block ends; None where nothing that ends sessions was opened.

    `api` are the account calls, None where the app has the accounts.
    """
    frame, revoker = frame_of(gate, streams), gate.runtime.revoker
    if api is not None:
        yield AccountPages(frame, AccountBook(api.services.accounts), api)
    elif isinstance(revoker, AppSignOut):
        snapshot = gate.runtime.snapshot
        app = AppSessions(settings.store.url, cookie_name=snapshot.cookies.session_token, keys=snapshot.keys)
        try:
            yield AccountPages(frame, AppBook(app))
        finally:
            await app.close()
    else:
        yield None if revoker is None else AccountPages(frame, WriterBook(revoker))


def frame_of(gate: Gate, streams: Streams) -> Frame:
    """What pages need of this gate."""
    snapshot = gate.runtime.snapshot
    return Frame(
        pages=gate.pages,
        keys=snapshot.keys,
        names=snapshot.cookies,
        lifetimes=snapshot.lifetimes,
        extends=gate.runtime.extender is not None,
        sessions=KnownSessions(gate, streams),
        clock=gate.clock,
        random_bytes=os.urandom,
        audit=gate.telemetry.audit,
    )
