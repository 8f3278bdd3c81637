"""What one worker may use of what is allowed to all."""

import random
from pathlib import Path

import msgspec
import pytest

from gatekeeper.config.load import load_file, load_text
from gatekeeper.config.schema import Settings
from gatekeeper.workers.division import address_limit, divided
from tests.config.loading import BASE, ENVIRON

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def settings_of(more: str) -> Settings:
    return load_text(BASE + more, source="test.yaml", base_dir=Path("/"), environ=ENVIRON)


def test_connections_are_divided_and_rounded_up() -> None:
    more = "workers: 3\nupstreams: {api: {url: http://127.0.0.1:4000, max_connections: 2}}\n"
    mine = divided(settings_of(more), 3)
    assert mine.upstream.max_connections == 86
    assert mine.upstreams["api"].max_connections == 1
    assert mine.store.pool == 4


def test_what_counts_for_all_together_stays_and_the_admin_listener_is_not_theirs() -> None:
    whole = settings_of("workers: 4\nlimits: {connections: 100, per_address: null}\n")
    mine = divided(whole, 4)
    assert (mine.limits.connections, mine.limits.per_address, mine.admin.listen) == (100, None, None)
    assert (mine.secrets, mine.session, mine.protect, mine.log) == (
        whole.secrets,
        whole.session,
        whole.protect,
        whole.log,
    )


@pytest.mark.parametrize(
    ("limit", "workers", "of_one"), [(500, 1, 500), (500, 2, 314), (500, 4, 170), (500, 8, 95), (10, 4, 9), (1, 8, 1)]
)
def test_what_one_worker_takes_of_an_address(limit: int, workers: int, of_one: int) -> None:
    assert address_limit(limit, workers) == of_one


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_whom_the_kernel_deals_out_unevenly_is_not_refused_below_the_limit(workers: int) -> None:
    """500 connections at random to so many workers, a thousand times: hardly ever is one worker's limit exceeded."""
    limit = address_limit(500, workers)
    dealer = random.Random(20)  # noqa: S311 - only to be even
    exceeded = 0
    for _ in range(1_000):
        counts = [0] * workers
        for _ in range(500):
            counts[dealer.randrange(workers)] += 1
        exceeded += max(counts) > limit
    assert exceeded <= 3


def test_settings_come_out_of_the_channel_as_they_went_in() -> None:
    settings = load_file(EXAMPLE, {"BETTER_AUTH_SECRET": ENVIRON["BETTER_AUTH_SECRET"]})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=Settings) == settings
