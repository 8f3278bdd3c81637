"""WebSockets: keys, the answer to a handshake, Close frames, and where frames begin and end however they are cut."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatekeeper.core.websocket import (
    GOING_AWAY,
    POLICY_VIOLATION,
    FrameTracker,
    accept_for,
    close_frame,
    is_key,
    opens_tunnel,
)

Field = tuple[bytes, bytes]
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
UPGRADE: Field = (b"Upgrade", b"websocket")
CONNECTION: Field = (b"Connection", b"Upgrade")
ACCEPTED: Field = (b"Sec-WebSocket-Accept", ACCEPT)


# --- the handshake -------------------------------------------------------------------------------------------------


def test_the_example_of_rfc_6455() -> None:
    assert accept_for(KEY) == ACCEPT


@pytest.mark.parametrize(
    ("value", "is_good"),
    [
        pytest.param(KEY, True, id="example"),
        pytest.param(b"AAAAAAAAAAAAAAAAAAAAAA==", True, id="zeros"),
        pytest.param(b"/////////////////////w==", True, id="ones"),
        pytest.param(b"/////////////////////x==", False, id="bits-beyond-16-bytes"),
        pytest.param(b"", False, id="empty"),
        pytest.param(b"AAAAAAAAAAAAAAAAAAAAA===", False, id="15-bytes-padded"),
        pytest.param(b"AAAAAAAAAAAAAAAAAAAA", False, id="15-bytes"),
        pytest.param(b"AAAAAAAAAAAAAAAAAAAAAAA=", False, id="17-bytes"),
        pytest.param(b"AAAAAAAAAAAAAAAAAAAAAA", False, id="no-padding"),
        pytest.param(KEY + b"\n", False, id="line-end"),
        pytest.param(b" " + KEY, False, id="blank"),
        pytest.param(KEY + b", " + KEY, False, id="two"),
        pytest.param(b"-____________________w==", False, id="the-url-alphabet"),
    ],
)
def test_keys(value: bytes, is_good: bool) -> None:
    assert is_key(value) is is_good


@pytest.mark.parametrize(
    ("fields", "opens"),
    [
        pytest.param([UPGRADE, CONNECTION, ACCEPTED], True, id="right"),
        pytest.param([ACCEPTED, CONNECTION, (b"Server", b"s"), UPGRADE], True, id="any-order-and-more"),
        pytest.param(
            [(b"UPGRADE", b"WebSocket"), (b"connection", b"UPGRADE"), (b"sec-websocket-accept", ACCEPT)],
            True,
            id="any-case",
        ),
        pytest.param([UPGRADE, (b"Connection", b"keep-alive, Upgrade"), ACCEPTED], True, id="among-other-options"),
        pytest.param([UPGRADE, (b"Connection", b"keep-alive"), CONNECTION, ACCEPTED], True, id="two-connection-lines"),
        pytest.param(
            [UPGRADE, CONNECTION, ACCEPTED, (b"Sec-WebSocket-Protocol", b"chat")], True, id="with-a-subprotocol"
        ),
        pytest.param([CONNECTION, ACCEPTED], False, id="no-upgrade"),
        pytest.param([UPGRADE, UPGRADE, CONNECTION, ACCEPTED], False, id="upgrade-twice"),
        pytest.param([(b"Upgrade", b"h2c"), CONNECTION, ACCEPTED], False, id="another-protocol"),
        pytest.param([(b"Upgrade", b"websocket, h2c"), CONNECTION, ACCEPTED], False, id="two-protocols"),
        pytest.param([UPGRADE, ACCEPTED], False, id="no-connection"),
        pytest.param([UPGRADE, (b"Connection", b"keep-alive"), ACCEPTED], False, id="another-option"),
        pytest.param([UPGRADE, (b"Connection", b"xupgrade"), ACCEPTED], False, id="part-of-a-word"),
        pytest.param([UPGRADE, CONNECTION], False, id="no-accept"),
        pytest.param([UPGRADE, CONNECTION, ACCEPTED, ACCEPTED], False, id="accept-twice"),
        pytest.param([UPGRADE, CONNECTION, (b"Sec-WebSocket-Accept", KEY)], False, id="the-key-itself"),
        pytest.param([UPGRADE, CONNECTION, (b"Sec-WebSocket-Accept", ACCEPT.lower())], False, id="accept-in-lower"),
        pytest.param([UPGRADE, CONNECTION, (b"Sec-WebSocket-Accept", ACCEPT[:-1])], False, id="accept-cut-short"),
        pytest.param([UPGRADE, CONNECTION, ACCEPTED, (b"Content-Length", b"0")], False, id="length"),
        pytest.param([UPGRADE, CONNECTION, ACCEPTED, (b"TRANSFER-ENCODING", b"chunked")], False, id="chunked"),
        pytest.param([], False, id="nothing"),
    ],
)
def test_what_opens_a_tunnel(fields: list[Field], opens: bool) -> None:
    assert opens_tunnel(fields, ACCEPT) is opens


# --- frames --------------------------------------------------------------------------------------------------------


def frame(payload: bytes, *, opcode: int = 2, mask: bytes | None = None, long_form: int = 0) -> bytes:
    """A frame by the diagram of RFC 6455 §5.2.  `long_form` 2 or 8 writes the length with so many bytes at least."""
    size, masked = len(payload), 0x80 if mask is not None else 0
    if size < 126 and not long_form:
        head = struct.pack("!BB", 0x80 | opcode, masked | size)
    elif size < 65_536 and long_form < 8:
        head = struct.pack("!BBH", 0x80 | opcode, masked | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, masked | 127, size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


FRAMES = st.builds(
    frame,
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([125, 126, 127, 300]).map(lambda size: b"x" * size),
        st.just(b"y" * 65_536),
    ),
    opcode=st.sampled_from([0, 1, 2, 8, 9, 10]),
    mask=st.one_of(st.none(), st.binary(min_size=4, max_size=4)),
    long_form=st.sampled_from([0, 0, 2, 8]),
)


@pytest.mark.parametrize(
    "whole",
    [
        pytest.param(frame(b""), id="empty"),
        pytest.param(frame(b"", mask=b"abcd"), id="empty-masked"),
        pytest.param(frame(b"Hello", opcode=1), id="short"),
        pytest.param(frame(b"Hello", mask=b"\x37\xfa\x21\x3d"), id="short-masked"),
        pytest.param(frame(b"x" * 125), id="longest-short"),
        pytest.param(frame(b"x" * 126), id="two-length-bytes"),
        pytest.param(frame(b"x" * 126, mask=b"abcd"), id="two-length-bytes-masked"),
        pytest.param(frame(b"x" * 70_000), id="eight-length-bytes"),
        pytest.param(frame(b"x" * 70_000, mask=b"abcd"), id="eight-length-bytes-masked"),
        pytest.param(frame(b"", long_form=2), id="nothing-in-two-length-bytes"),
        pytest.param(frame(b"", mask=b"abcd", long_form=8), id="nothing-in-eight-length-bytes"),
    ],
)
def test_each_byte_of_a_frame_is_inside_it_but_for_the_last(whole: bytes) -> None:
    tracker = FrameTracker()
    assert tracker.is_between
    for byte in whole[:-1]:
        tracker.feed(bytes([byte]))
        assert not tracker.is_between
    tracker.feed(whole[-1:])
    assert tracker.is_between


@settings(deadline=None)
@given(frames=st.lists(FRAMES, min_size=1, max_size=6), data=st.data())
def test_a_stream_stands_between_frames_at_their_ends_alone(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames)
    ends, at = {0}, 0
    for one in frames:
        at += len(one)
        ends.add(at)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    cuts += data.draw(st.lists(st.sampled_from(sorted(ends)), max_size=5))
    near = data.draw(st.lists(st.integers(-15, 15), max_size=5))
    cuts += [min(max(end + step, 0), len(stream)) for end, step in zip(sorted(ends), near, strict=False)]
    tracker, before = FrameTracker(), 0
    for cut in [*sorted(cuts), len(stream)]:
        tracker.feed(stream[before:cut])
        before = cut
        assert tracker.is_between is (cut in ends)


@pytest.mark.parametrize("mask", [None, b"abcd"])
def test_a_piece_of_too_many_frames_is_not_followed_through(mask: bytes | None) -> None:
    ping = frame(b"", opcode=9, mask=mask)
    tracker = FrameTracker()
    for _ in range(3):  # each piece is counted by itself
        tracker.feed(ping * 1000)
        assert tracker.is_between
    tracker.feed(ping * 1001)
    assert not tracker.is_between
    tracker.feed(ping)
    assert not tracker.is_between  # where it stands is not known any more


def test_a_close_frame_for_a_client() -> None:
    assert close_frame(GOING_AWAY, masked=False) == frame(struct.pack("!H", 1001), opcode=8)
    assert close_frame(POLICY_VIOLATION, masked=False) == frame(struct.pack("!H", 1008), opcode=8)


def test_a_close_frame_for_an_app_is_masked() -> None:
    assert close_frame(POLICY_VIOLATION, masked=True) == frame(struct.pack("!H", 1008), opcode=8, mask=b"\0\0\0\0")


@pytest.mark.parametrize("masked", [False, True])
def test_a_close_frame_is_one_whole_frame(masked: bool) -> None:
    tracker = FrameTracker()
    for byte in close_frame(GOING_AWAY, masked=masked)[:-1]:
        tracker.feed(bytes([byte]))
        assert not tracker.is_between
    tracker.feed(close_frame(GOING_AWAY, masked=masked)[-1:])
    assert tracker.is_between
