"""What is leaned on of aiohttp's inside: each piece by its name, so that a release that moves one fails here."""

import inspect

import pytest
from aiohttp import http_parser, web
from aiohttp.base_protocol import BaseProtocol

from gatekeeper.core.errors import GatekeeperError
from gatekeeper.server import connection


def test_the_c_parser_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.require_c_parser()
    monkeypatch.setattr(http_parser, "HttpRequestParser", http_parser.HttpRequestParserPy)
    with pytest.raises(GatekeeperError, match="C parser is missing"):
        connection.require_c_parser()


def test_pieces_of_aiohttp() -> None:
    assert issubclass(web.RequestHandler, BaseProtocol)
    for name in ("pause_writing", "resume_writing", "writing_paused", "connection_lost"):
        assert hasattr(BaseProtocol, name)
    assert list(inspect.signature(web.RequestHandler.handle_error).parameters)[1:] == [
        *("request", "status", "exc", "message")
    ]
    for name in ("max_line_size", "max_headers", "max_field_size", "lingering_time", "auto_decompress"):
        assert name in inspect.signature(web.RequestHandler.__init__).parameters
    assert "_waiter" in web.RequestHandler.__slots__
    assert "self._waiter = loop.create_future()" in inspect.getsource(web.RequestHandler.start)
    assert "handler_cancellation" in inspect.signature(web.Server.__init__).parameters
    source = inspect.getsource(web.RequestHandler.finish_response)
    assert "resp.prepare" in source
    assert "resp.write_eof()" in source
    assert "resp.keep_alive" in inspect.getsource(web.RequestHandler.start)
    for name in ("raw_path", "raw_headers", "version", "keep_alive", "protocol", "transport", "content"):
        assert hasattr(web.BaseRequest, name)


async def test_what_a_handler_hands_back_writes_nothing() -> None:
    for sent, keep_alive in ((connection.SENT, True), (connection.SENT_AND_CLOSE, False)):
        assert sent.keep_alive is keep_alive
        await sent.prepare(None)  # type: ignore[arg-type]
        await sent.write_eof()
