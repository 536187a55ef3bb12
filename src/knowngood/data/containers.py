"""What a file's bytes say before any decoder sees them: is this PNG or JPEG whole, and is it a plain one."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"

# Chunks that change how the samples are to be read: a PNG with one of them goes to the general decoder.
_PNG_SPECIAL = frozenset({b"tRNS", b"acTL", b"eXIf"})
_PNG_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_TEXT_WITH_EXIF = (b"Raw profile type", b"XML:com.adobe.xmp")  # all other text is only remarks
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


@dataclass(frozen=True)
class PngFacts:
    """What the chunks of a PNG say.

    Attributes:
        damage: What is wrong with the file; None when every needed chunk has the right checksum.
        plain: 8-bit grey or RGB without transparency, orientation or animation.
        may_turn: Some chunk could hold an EXIF orientation.
    """

    damage: str | None
    plain: bool
    may_turn: bool


def png_facts(data: bytes) -> PngFacts:
    """Walks the chunks of a PNG and checks length and CRC of the critical ones.

    Decoders skip the checksum of the pixel data; a damaged photograph must not be inspected as a sound one.

    Args:
        data: The whole file.

    Returns:
        The facts; `damage` is None for a sound file.

    Reference: PNG specification (W3C, third edition), section 5.3 and 13.2.
    """
    view = memoryview(data)
    at, plain, seen = len(PNG_SIGNATURE), False, set[bytes]()
    while True:
        if at + 12 > len(data):
            return PngFacts("is truncated: it ends before the end of the picture", False, False)
        length = int.from_bytes(view[at : at + 4], "big")
        kind = bytes(view[at + 4 : at + 8])
        end = at + 8 + length
        if end + 4 > len(data):
            return PngFacts("is truncated: it ends before the end of the picture", False, False)
        critical = not kind[0] & 0x20  # upper-case first letter
        if critical and zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return PngFacts("is damaged: a checksum in it is wrong", False, False)
        if kind == b"IHDR" and length == 13:
            plain = data[at + 16] == 8 and data[at + 17] in (0, 2)
        if kind in _PNG_TEXT and data.startswith(_TEXT_WITH_EXIF, at + 8, end):
            seen.add(b"eXIf")
        seen.add(kind)
        at = end + 4
        if kind == b"IEND":
            break
    if b"IDAT" not in seen:
        return PngFacts("is damaged: it holds no pixels", False, False)
    return PngFacts(None, plain and not seen & _PNG_SPECIAL, b"eXIf" in seen)


def jpeg_is_cut(data: bytes) -> bool:
    """Says whether a JPEG lacks the end marker after its first scan, as a half-copied file does.

    Args:
        data: The whole file.

    Returns:
        True when the file ends too early. Inside a scan 0xFF is always escaped, so the marker cannot be there
        by chance; an embedded thumbnail lies before the scan and does not count.

    Reference: ITU-T T.81, annex B.1.1.
    """
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False  # not a clean list of segments: the decoder judges
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker == 0xDA:
            return data.find(b"\xff\xd9", at) < 0
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True
