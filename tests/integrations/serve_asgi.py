"""An ASGI server for one test: `python serve_asgi.py FOLDER MODULE PORT` serves `MODULE.app` on loopback.

Knows as much of ASGI as the examples use: requests without a body, the lifespan not at all.
"""

import asyncio
import sys
from importlib import import_module
from typing import Any

from aiohttp import web


def adapt(app: Any) -> Any:
    async def handle(request: web.BaseRequest) -> web.Response:
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.path,
            "raw_path": request.raw_path.partition("?")[0].encode(),
            "root_path": "",
            "query_string": request.query_string.encode(),
            "headers": [(name.lower(), value) for name, value in request.raw_headers],
            "client": tuple(peer[:2]) if peer else None,
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        headers = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
        return web.Response(
            status=sent[0]["status"], headers=headers, body=b"".join(message.get("body", b"") for message in sent[1:])
        )

    return handle


async def main(folder: str, module: str, port: int) -> None:
    sys.path.insert(0, folder)
    app = import_module(module).app
    runner = web.ServerRunner(web.Server(adapt(app)))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"http://127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
