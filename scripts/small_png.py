"""PNG files made small: a palette of 256 colours in place of three bytes for each pixel.

For pictures of pages, which have few colours: where there are more than 256, the rarest, which are edges of letters,
become the nearest of those that are kept.  Sections are those of the PNG specification, third edition.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_COLOURS = 256

_CHANNELS = {2: 3, 6: 4}  # colour type: bytes for each pixel, at eight bits a sample
_SUB, _UP, _AVERAGE = 1, 2, 3

Colour = tuple[int, int, int]


def shrink(png: bytes) -> bytes:
    """The same picture with a palette.  Raises ValueError for what is no opaque PNG of eight bits a sample."""
    width, height, pixels = read_pixels(png)
    counts = Counter(pixels)
    kept = [colour for colour, _ in counts.most_common(MAX_COLOURS)]
    index = {colour: number for number, colour in enumerate(kept)}
    for colour in counts:
        index.setdefault(colour, _nearest(colour, kept))
    numbers = bytes(index[pixel] for pixel in pixels)
    rows = b"".join(b"\0" + numbers[start : start + width] for start in range(0, width * height, width))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", b"".join(map(bytes, kept))),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def read_pixels(png: bytes) -> tuple[int, int, list[Colour]]:
    """Width, height, and the colours row by row.  Raises ValueError."""
    chunks = list(_chunks(png))
    width, height, depth, kind, *rest = struct.unpack(">IIBBBBB", dict(chunks)[b"IHDR"])
    if depth != 8 or any(rest) or kind not in _CHANNELS:
        raise ValueError("no PNG of eight bits a sample")
    step = _CHANNELS[kind]
    data = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    above, pixels, stride = bytes(width * step), list[Colour](), width * step + 1
    for start in range(0, height * stride, stride):
        above = _unfilter(data[start], bytearray(data[start + 1 : start + stride]), above, step)
        if step == 4 and any(alpha != 255 for alpha in above[3::4]):
            raise ValueError("a picture that one can see through")
        pixels += zip(above[0::step], above[1::step], above[2::step], strict=True)
    return width, height, pixels


def _unfilter(kind: int, line: bytearray, above: bytes, step: int) -> bytes:
    """A row of samples as they are, from what they differ by (section 9)."""
    if kind == _UP:
        return bytes((sample + up) & 255 for sample, up in zip(line, above, strict=True))
    for at in range(len(line) if kind else 0):
        left, corner = (line[at - step], above[at - step]) if at >= step else (0, 0)
        up = above[at]
        guess = left if kind == _SUB else (left + up) // 2 if kind == _AVERAGE else _paeth(left, up, corner)
        line[at] = (line[at] + guess) & 255
    return bytes(line)


def _paeth(left: int, up: int, corner: int) -> int:
    to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    if to_left <= to_up and to_left <= to_corner:
        return left
    return up if to_up <= to_corner else corner


def _nearest(colour: Colour, kept: Sequence[Colour]) -> int:
    def distance(number: int) -> int:
        return sum((one - other) ** 2 for one, other in zip(colour, kept[number], strict=True))

    return min(range(len(kept)), key=distance)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not png.startswith(SIGNATURE):
        raise ValueError("no PNG")
    at = len(SIGNATURE)
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        yield kind, png[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
