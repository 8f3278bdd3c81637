"""Bytes behind an upgrade that does not take place are never parsed from the middle."""

import pytest

from tests.attacks.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="module")
UPGRADE = "Host: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


async def test_a_request_behind_a_dropped_upgrade_is_answered_or_the_connection_closed(site: Site) -> None:
    answers = await site.say(f"GET /a HTTP/1.1\r\n{UPGRADE}GET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert answers[-1].closes


@pytest.mark.parametrize("target", ["/a", "/dashboard"])
async def test_what_is_inside_of_a_header_never_becomes_a_request(site: Site, target: str) -> None:
    conversation = await site.open()
    conversation.send(f"GET {target} HTTP/1.1\r\n{UPGRADE}GET /b HTTP/1.1\r\nHost: h\r\nX: ")
    await conversation.answers(1)
    conversation.send("GET /smuggled HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    await conversation.end()
    assert "/smuggled" not in site.reached  # now: it is, as a request of its own
