"""What is wrong with `identity`: names of headers that collide or mean something else, and the assertion's settings."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gatekeeper.config.key_folder import KeyFolder
from gatekeeper.config.leaves import closest
from gatekeeper.config.schema import Assertion, IdentitySettings, Settings
from gatekeeper.core.errors import KeysUnusable
from gatekeeper.core.headers import may_carry_identity
from gatekeeper.core.identity import PRESETS, HeaderNames, fold_name

Finding = tuple[str, str]

LEAST_TTL_S, MOST_TTL_S = 10, 300


def check_identity(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong with what the app is told."""
    yield from _check_rename(settings.identity)
    yield from _check_assertion(settings.identity.assertion)


def header_names(identity: IdentitySettings) -> HeaderNames:
    """The names of identity headers.  Raises KeyError for settings that were not found without problems."""
    return PRESETS[identity.headers].renamed(identity.rename)


def _check_rename(identity: IdentitySettings) -> Iterator[Finding]:
    faults = list(_faults(identity))
    yield from faults
    if faults:
        return
    names = header_names(identity)
    folded = Counter(fold_name(getattr(names, what).encode()) for what in names.__struct_fields__)
    for name, other in identity.rename.items():
        if other and folded[fold_name(other.encode())] > 1:
            yield f"identity.rename.{name}", f"two headers would be called {other}, as apps read it"


def _faults(identity: IdentitySettings) -> Iterator[Finding]:
    """What is wrong with single names."""
    given = Counter(name.lower() for name in identity.rename)
    sent = PRESETS[identity.headers].sent()
    for name, other in identity.rename.items():
        path = f"identity.rename.{name}"
        what = sent.get(name.lower())
        if what is None:
            names = [getattr(PRESETS[identity.headers], each) for each in sent.values()]
            close = closest(name, names)
            hint = f"did you mean {close}?" if close else f"there are {', '.join(names)}"
            yield path, f"with headers: {identity.headers} there is no such header; {hint}"
        elif given[name.lower()] > 1:
            yield path, "this header is there twice"
        elif not other:
            if what == "status":
                yield path, "this one is always sent: without it, apps could not tell that nobody is signed in"
        elif not may_carry_identity(other):
            yield path, "this is no name for it: it means something else to HTTP or proxies, or is no header name"


def _check_assertion(assertion: Assertion) -> Iterator[Finding]:
    if not LEAST_TTL_S <= assertion.ttl <= MOST_TTL_S:
        yield "identity.assertion.ttl", "an assertion is valid for 10 seconds at least, and 5 minutes at most"
    if assertion.keys is None:
        return
    folder = KeyFolder(Path(assertion.keys))
    try:
        folder.read()
    except KeysUnusable as problem:
        yield "identity.assertion.keys", str(problem)
        return
    if not folder.can_be_made():
        yield "identity.assertion.keys", "there are no keys, and none can be made: mount a folder, or leave this out"
