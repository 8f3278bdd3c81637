"""What one worker may use of what the settings allow the gate as a whole."""

import math

import msgspec

from gatekeeper.config.schema import Settings, Upstream

_SPREAD = 4.0
"""How many standard deviations above its share a worker may have of one address's connections."""


def divided(settings: Settings, workers: int) -> Settings:
    """The settings of one worker among so many.

    Connections to apps and to the store are divided, rounded up.  `limits.connections` stays: workers count together.
    The admin listener is the supervisor's.
    """
    replace = msgspec.structs.replace

    def share_of(upstream: Upstream) -> Upstream:
        return replace(upstream, max_connections=_share(upstream.max_connections, workers))

    limit = settings.limits.per_address
    return replace(
        settings,
        workers=1,
        upstream=share_of(settings.upstream),
        upstreams={name: share_of(upstream) for name, upstream in settings.upstreams.items()},
        store=replace(settings.store, pool=_share(settings.store.pool, workers)),
        limits=replace(settings.limits, per_address=None if limit is None else address_limit(limit, workers)),
        admin=replace(settings.admin, listen=None),
    )


def address_limit(limit: int, workers: int) -> int:
    """How many connections of one address one worker takes, so that all together take `limit` and little more.

    The kernel deals connections out at random, so that an even share is exceeded by chance: by four standard deviations
    once in some ten thousand times.
    """
    share = limit / workers
    return min(limit, math.ceil(share + _SPREAD * math.sqrt(share)))


def _share(whole: int, workers: int) -> int:
    return -(-whole // workers)
