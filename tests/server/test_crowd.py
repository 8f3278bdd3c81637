"""How many clients there may be: in all, and of each address."""

import pytest

from gatekeeper.core.forwarding import UNIX_PEER, TrustedProxies
from gatekeeper.server.crowd import Crowd

NOBODY = TrustedProxies([])


def test_of_one_address_only_so_many() -> None:
    crowd = Crowd(None, 2, NOBODY)
    assert [crowd.enter("203.0.113.7") for _ in range(3)] == [True, True, False]
    assert crowd.enter("203.0.113.8")
    assert crowd.count == 4


def test_who_was_refused_counts_until_it_leaves() -> None:
    crowd = Crowd(None, 1, NOBODY)
    assert crowd.enter("203.0.113.7")
    assert not crowd.enter("203.0.113.7")
    crowd.leave("203.0.113.7")
    assert not crowd.enter("203.0.113.7")
    crowd.leave("203.0.113.7")
    crowd.leave("203.0.113.7")
    assert crowd.count == 0
    assert crowd.enter("203.0.113.7")


@pytest.mark.parametrize("address", ["10.1.2.3", "fe80::1", "fe80::1%eth0", UNIX_PEER])
def test_trusted_proxies_and_unix_peers_stand_for_many(address: str) -> None:
    crowd = Crowd(3, 1, TrustedProxies(["10.0.0.0/8", "fe80::/10"]))
    assert [crowd.enter(address) for _ in range(4)] == [True, True, True, False]  # but the limit of all holds for them


@pytest.mark.parametrize("address", ["11.1.2.3", "fec0::1", "somebody"])
def test_others_do_not(address: str) -> None:
    crowd = Crowd(3, 1, TrustedProxies(["10.0.0.0/8", "fe80::/10"]))
    assert [crowd.enter(address) for _ in range(2)] == [True, False]


def test_the_limit_of_all_and_when_refusing_costs_too_much() -> None:
    crowd = Crowd(20, None, NOBODY)
    assert all(crowd.enter(f"203.0.113.{number}") for number in range(20))
    assert not crowd.is_overrun
    assert not crowd.enter("198.51.100.1")
    assert not crowd.enter("198.51.100.2")
    assert not crowd.is_overrun  # 22 of 20: a tenth more
    assert not crowd.enter("198.51.100.3")
    assert crowd.is_overrun
    crowd.leave("198.51.100.3")
    assert not crowd.is_overrun


def test_without_limits_nobody_is_refused() -> None:
    crowd = Crowd(None, None, NOBODY)
    assert all(crowd.enter("203.0.113.7") for _ in range(1_000))
    assert not crowd.is_overrun
