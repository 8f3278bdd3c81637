"""`stores.lease`: how long what a feed has proven holds."""

from gatekeeper.stores.lease import LOST_S, Lease


def test_it_is_not_held_at_first() -> None:
    lease = Lease()
    assert not lease.is_held(0.0)
    assert lease.covered_since is None


def test_it_is_held_from_a_marker_on_for_a_while_after_it_was_sent() -> None:
    lease = Lease()
    lease.begin(99.0)
    assert not lease.is_held(100.0)
    lease.renew(100.0)
    assert lease.is_held(100.0 + LOST_S - 0.01)
    assert not lease.is_held(100.0 + LOST_S)
    assert (lease.covered_since, lease.proven_at) == (99.0, 100.0)


def test_a_marker_that_overtook_another_takes_nothing_back() -> None:
    lease = Lease()
    lease.renew(100.0)
    lease.renew(99.0)
    assert (lease.proven_at, lease.held_until) == (100.0, 100.0 + LOST_S)


def test_one_that_ran_out_is_held_again_after_the_next_marker() -> None:
    lease = Lease()
    lease.begin(99.0)
    lease.renew(100.0)
    assert not lease.is_held(102.0)
    lease.renew(102.0)
    assert lease.is_held(102.1)
    assert lease.covered_since == 99.0, "nothing was missed meanwhile"


def test_a_lost_channel_ends_it_at_once_and_covers_nothing() -> None:
    lease = Lease()
    lease.begin(99.0)
    lease.renew(100.0)
    lease.lose(100.2)
    assert not lease.is_held(100.2)
    assert lease.held_until == 100.2, "until then it was held"
    assert lease.covered_since is None
    lease.lose(103.0)
    assert lease.held_until == 100.2
