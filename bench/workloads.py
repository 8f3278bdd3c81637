"""What is asked of each proxy: the requests, and the answer that counts."""

from typing import Literal

import msgspec

PAGE = "/dashboard/page"
GUARDED = "/settings/page"
"""A protected page for requests without a cookie.  Peers without sessions may have a rule of their own there."""
LARGE = "/dashboard/large"
UPLOAD = "/dashboard/upload"
WEBSOCKET = "/dashboard/ws"

PAGE_BYTES = 1024
LARGE_BYTES = 2**20
POST_BYTES = 10 * 1024
MESSAGE_BYTES = 64
CONNECTIONS = 32
MANY_CONNECTIONS = 1024

Name = Literal[
    "verified", "varied", "redirect", "denied", "post", "mixed", "down", "up", "websocket", "crowded", "paired"
]

BROWSER_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "http://127.0.0.1/dashboard",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
}
SCRIPT_HEADERS = BROWSER_HEADERS | {
    "Accept": "*/*",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
}


class Workload(msgspec.Struct, frozen=True):
    """Requests of one kind.

    `statuses` are those of a right answer; `sends` and `answers` the bytes of the bodies, where they are fixed.
    `mixes` makes one request in ten a POST of `POST_BYTES` and one in a hundred use a session not seen before.
    `varies` makes no request like another: see `wrk.script`.  `asked_of` are the proxies that it is measured with, by
    their names; None for all.  `turns` is how often a round measures it, there and back, and
    `seconds` how long each time; 0 is as long as all.
    """

    name: Name
    title: str
    path: str
    method: str = "GET"
    with_cookie: bool = True
    headers: dict[str, str] = msgspec.field(default_factory=lambda: BROWSER_HEADERS)
    statuses: tuple[int, ...] = (200,)
    sends: int = 0
    answers: int | None = PAGE_BYTES
    mixes: bool = False
    varies: bool = False
    connections: int = CONNECTIONS
    asked_of: tuple[str, ...] | None = None
    turns: int = 1
    seconds: int = 0


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload("verified", "verified GET", PAGE),
        Workload("varied", "varied GET", PAGE, varies=True),
        Workload("redirect", "redirect", GUARDED, with_cookie=False, statuses=(302, 303, 307), answers=None),
        Workload("denied", "401", GUARDED, with_cookie=False, headers=SCRIPT_HEADERS, statuses=(401,), answers=None),
        Workload("post", "POST 10 KB", UPLOAD, "POST", sends=POST_BYTES),
        Workload("mixed", "mix", PAGE, mixes=True),
        Workload("down", "1 MB down", LARGE, answers=LARGE_BYTES),
        Workload("up", "1 MB up", UPLOAD, "POST", sends=LARGE_BYTES),
        Workload("websocket", "WebSocket", WEBSOCKET, statuses=(101,), answers=None),
        Workload(
            "crowded",
            "1,024 connections",
            PAGE,
            connections=MANY_CONNECTIONS,
            asked_of=("gate", "gate2", "nginx", "go"),
        ),
        Workload("paired", "verified GET, in turns", PAGE, asked_of=("gate", "unsigned", "gate2"), turns=24, seconds=1),
    )
}
