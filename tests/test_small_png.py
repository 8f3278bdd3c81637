"""Pictures with a palette show what the ones before did; each filter of PNG is read."""

import struct
import zlib

import pytest

from scripts.small_png import SIGNATURE, read_pixels, shrink

RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (120, 121, 122)
Colour = tuple[int, int, int]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, lines: list[bytes], *, kind: int = 2, depth: int = 8) -> bytes:
    """A picture of these lines, each with its filter in front; the data in two chunks."""
    data = zlib.compress(b"".join(lines))
    head = struct.pack(">IIBBBBB", width, len(lines), depth, kind, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", data[:3]), (b"IDAT", data[3:]), (b"IEND", b"")
    return SIGNATURE + b"".join(chunk(*part) for part in parts)


def palette_pixels(picture: bytes) -> list[Colour]:
    """The colours of a picture that `shrink` has made."""
    at, found = len(SIGNATURE), dict[bytes, bytes]()
    while at < len(picture):
        length, kind = struct.unpack_from(">I4s", picture, at)
        found[kind] = picture[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", picture, at + 8 + length)[0] == zlib.crc32(kind + found[kind])
        at += 12 + length
    width, height, depth, kind = struct.unpack_from(">IIBB", found[b"IHDR"])
    assert (depth, kind) == (8, 3)
    colours = [tuple(found[b"PLTE"][at : at + 3]) for at in range(0, len(found[b"PLTE"]), 3)]
    rows, stride = zlib.decompress(found[b"IDAT"]), width + 1
    assert len(rows) == height * stride
    return [colours[number] for at in range(0, len(rows), stride) for number in rows[at + 1 : at + stride]]  # type: ignore[misc]


FILTERED = {
    "none": [bytes([0, *RED, *BLUE])],
    "sub": [bytes([1, *RED, 1, 0, 255])],
    "up": [bytes([0, *RED, *RED]), bytes([2, 0, 0, 0, 1, 0, 255])],
    "average": [bytes([0, *RED, *RED]), bytes([3, 128, 0, 0, 1, 0, 255])],
    "paeth": [bytes([0, *RED, *RED]), bytes([4, 0, 0, 0, 1, 0, 255])],
}


@pytest.mark.parametrize("lines", FILTERED.values(), ids=FILTERED)
def test_each_filter_is_read(lines: list[bytes]) -> None:
    assert read_pixels(png(2, lines))[2][-2:] == [RED, BLUE]


def test_paeth_takes_the_nearest_of_three() -> None:
    lines = [bytes([0, 10, 0, 0, 50, 0, 0]), bytes([4, 60, 0, 0, 5, 0, 0])]
    # The left one is 70, the one above 50, the corner 10: 110 is nearest to the left one.
    assert read_pixels(png(2, lines))[2][2:] == [(70, 0, 0), (75, 0, 0)]


def test_few_colours_stay_as_they_are() -> None:
    picture = png(3, [bytes([0, *RED, *BLUE, *GREY]), bytes([0, *GREY, *GREY, *RED])])
    assert palette_pixels(shrink(picture)) == [RED, BLUE, GREY, GREY, GREY, RED]


def test_opaque_pictures_with_alpha_are_read() -> None:
    picture = png(2, [bytes([0, *RED, 255, *BLUE, 255])], kind=6)
    assert palette_pixels(shrink(picture)) == [RED, BLUE]


def test_rare_colours_become_the_nearest() -> None:
    often = [(level, 0, 0) for level in range(256)]
    line = bytes([0]) + b"".join(bytes(colour) for colour in [*often, *often, (7, 1, 0)])
    assert palette_pixels(shrink(png(513, [line]))) == [*often, *often, (7, 0, 0)]


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(b"GIF89a", id="no-png"),
        pytest.param(png(1, [bytes([0, 0, 1, 0, 2, 0, 3])], depth=16), id="sixteen-bits"),
        pytest.param(png(1, [bytes([0, 0])], kind=3), id="palette"),
        pytest.param(png(1, [bytes([0, *RED, 254])], kind=6), id="see-through"),
    ],
)
def test_other_pictures_are_refused(picture: bytes) -> None:
    with pytest.raises(ValueError, match=r"PNG|see through"):
        shrink(picture)
