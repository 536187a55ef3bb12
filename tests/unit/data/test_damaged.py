"""Every pixel comes from the file: what lacks data, lies, or is damaged is refused with its reason."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from knowngood.data.images import decode, probe, read_mask
from knowngood.errors import ConfigError, ImageError

rng = np.random.default_rng(0)
GREY = rng.integers(0, 256, (60, 100), np.uint8)
COLOUR = rng.integers(0, 256, (60, 100, 3), np.uint8)


def saved(pixels: np.ndarray, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, raw: bytes, *, bits: int = 8, colours: int = 0, passes: int = 0, extra=b"") -> bytes:
    """A PNG of any header over any data."""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, passes)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(
    pixels: np.ndarray,
    *,
    order: str = "<",
    planar: bool = False,
    photometric: int | None = None,
    form: int = 1,
    extra: tuple[int, ...] = (),
    **changed: int,
) -> bytes:
    """A TIFF of one strip (one a band where planar), with any sample format; `changed` overwrites t<tag>."""
    bands = pixels.shape[2] if pixels.ndim == 3 else 1
    ordered = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [ordered[..., b].tobytes() for b in range(bands)] if planar else [ordered.tobytes()]
    height, width = pixels.shape[:2]
    colours = photometric if photometric is not None else 2 if bands >= 3 else 1
    tags = {256: [width], 257: [height], 258: [pixels.dtype.itemsize * 8] * bands, 259: [1], 262: [colours]}
    tags |= {273: [0] * len(strips), 277: [bands], 278: [height], 279: [len(s) for s in strips]}
    tags |= {284: [2 if planar else 1], 339: [form] * bands}
    if extra:
        tags[338] = list(extra)
    at = 8 + 2 + 12 * len(tags) + 4 + sum(4 * len(v) for v in tags.values() if len(v) > 1)
    tags[273] = [at + sum(len(s) for s in strips[:i]) for i in range(len(strips))]
    tags |= {int(tag[1:]): [value] for tag, value in changed.items()}
    entries, values, place = b"", b"", 8 + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, values = struct.pack(order + "I", place + len(values)), values + packed
        entries += struct.pack(order + "HHI", tag, 4, len(numbers)) + packed
    mark = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return mark + struct.pack(order + "H", len(tags)) + entries + bytes(4) + values + b"".join(strips)


def rows_of(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


@pytest.mark.parametrize("passes", [0, 1])
def test_a_png_with_fewer_or_more_rows_than_its_header_promises(passes: int) -> None:
    whole = rows_of(GREY)
    if passes:
        steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
        whole = b"".join(rows_of(GREY[y::down, x::across]) for x, y, across, down in steps)
    np.testing.assert_array_equal(decode(png(100, 60, whole, passes=passes)), GREY)
    for cut in (0, 1, 101, 3000, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ImageError, match="truncated: it holds"):
            decode(png(100, 60, whole[:cut], passes=passes))
    for more in (b"\0", bytes(101), bytes(5000)):
        with pytest.raises(ImageError, match="not those of its size"):
            decode(png(100, 60, whole + more, passes=passes))


def test_png_content_that_makes_libraries_print_is_refused_or_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageError, match="damaged"):
        decode(png(100, 60, b"\x07" + rows_of(GREY)[1:]))  # no such filter
    with pytest.raises(ImageError, match="palette lacks"):
        decode(png(100, 60, rows_of(GREY), colours=3, extra=chunk(b"PLTE", bytes(30))))
    junk = chunk(b"iCCP", b"a\0\0junk") + chunk(b"gAMA", b"x") + chunk(b"acTL", b"????????")
    np.testing.assert_array_equal(decode(png(100, 60, rows_of(GREY), extra=junk)), GREY)
    for compression in ("tiff_lzw", "packbits", "zstd"):
        with pytest.raises(ImageError):
            decode(with_strip(saved(GREY, "TIFF", compression=compression), 900))
    for data in (saved(COLOUR, "JPEG")[:-200] + b"\xff\xd9", saved(COLOUR, "WEBP")[:-9]):
        with pytest.raises(ImageError):
            decode(data)
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 5}])
def test_what_libjpeg_warns_of_is_damage(options: dict[str, object]) -> None:
    sound = saved(cv2.GaussianBlur(COLOUR, (0, 0), 2), "JPEG", quality=85, **options)
    start, dice, warned = sound.index(b"\xff\xda") + 12, random.Random(1), 0
    for _ in range(600):
        data = bytearray(sound)
        data[dice.randrange(start, len(data) - 2)] ^= 1 << dice.randrange(8)
        try:
            simplejpeg.decode_jpeg(bytes(data), "RGB", strict=True)
        except ValueError:
            warned += 1
            with pytest.raises(ImageError, match=r"damaged|truncated|cannot be|JPEG of"):
                decode(bytes(data))
    assert warned > 50
    for where in (b"JFIF\0", b"ICC_PROFILE\0\1"):  # a complaint about no pixel is no damage
        data = bytearray(saved(COLOUR, "JPEG", icc_profile=b"x" * 200, quality=90))
        data[data.index(where) + len(where)] = 9
        np.testing.assert_array_equal(decode(bytes(data)), decode(saved(COLOUR, "JPEG", quality=90)))


def test_a_progressive_jpeg_needs_all_of_its_scans_and_not_too_many() -> None:
    data = saved(cv2.GaussianBlur(GREY, (0, 0), 2), "JPEG", progressive=True)
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    for scan in scans[1:]:
        with pytest.raises(ImageError, match="lacks some of its scans"):
            decode(data[:scan] + b"\xff\xd9")
    with pytest.raises(ImageError, match="scans"):
        decode(data[:-2] + data[scans[-1] : -2] * 300 + b"\xff\xd9")


def test_gif_canvas_rows_and_remarks() -> None:
    for interlace in (0, 1):
        data = saved(GREY, "GIF", interlace=interlace)
        np.testing.assert_array_equal(decode(data), GREY)
        picture = data.index(b"\x2c\0\0\0\0")
        for height, reason in ((90, "truncated"), (30, "more than its size needs")):
            lie = bytearray(data)
            lie[8:10] = lie[picture + 7 : picture + 9] = struct.pack("<H", height)
            with pytest.raises(ImageError, match=reason):
                decode(bytes(lie))
        canvas = bytearray(data)
        canvas[6:10] = struct.pack("<HH", 500, 500)
        with pytest.raises(ImageError, match="does not cover"):
            decode(bytes(canvas))
    colours = b"GIF89a" + struct.pack("<HHBBB", 10, 10, 0x80, 0, 0) + bytes(6)
    with pytest.raises(ImageError, match="remarks"):
        decode(colours + b"\x21\xfe" + (b"\xff" + b"x" * 255) * 5000 + b"\0")


def test_bmp_webp_pnm_and_jpeg_2000_with_data_missing() -> None:
    bmp = saved(COLOUR, "BMP")
    taller = bytearray(bmp)
    taller[22:26] = struct.pack("<i", 90)
    webp = bytearray(saved(COLOUR, "WEBP", lossless=True))
    shorter = webp[:1000]
    shorter[4:8], shorter[16:20] = struct.pack("<I", 992), struct.pack("<I", 980)
    frames = io.BytesIO()
    Image.fromarray(COLOUR).save(frames, "WEBP", save_all=True, append_images=[Image.fromarray(GREY)], lossless=True)
    canvas = bytearray(frames.getvalue())
    canvas[24:30] = b"\xff\x0f\0\xff\x0f\0"
    jp2 = saved(COLOUR, "JPEG2000", tile_size=(32, 32))
    for data in (
        bmp[:-50],
        bytes(taller),
        bytes(webp[:1000]),
        bytes(shorter),
        bytes(canvas),
        b"P5 100 60 255\n" + GREY.tobytes()[:-1],
        b"P5 100 30 255\n" + GREY.tobytes(),
        b"P5 100 60 200\n" + GREY.tobytes(),
        b"P6\n#" + b"x" * 10**6 + b"\n10 10\n255\n" + bytes(300),
        b"P2 3 2 255\n1 2 3 4 5",
        b"P2 3 2 255\n1 2 3 4 5 x",
        jp2[:-300],
        jp2[:-300] + b"\xff\xd9",
    ):
        with pytest.raises(ImageError):
            decode(data)
    np.testing.assert_array_equal(decode(frames.getvalue()), COLOUR)
    np.testing.assert_array_equal(decode(bmp[14:]), COLOUR)  # a DIB
    np.testing.assert_array_equal(decode(b"P2 3 2 255\n1 2 3 # six\n 4 5 6"), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_kinds_are_right_or_refused_with_the_reason(order: str) -> None:
    deep = rng.integers(0, 65536, (60, 100), np.uint16)
    for data, expected in (
        (tiff(GREY, order=order), GREY),
        (tiff(deep, order=order), deep >> 8),
        (tiff(COLOUR, order=order, planar=True), COLOUR),
        (tiff(np.dstack([deep] * 2 + [deep.T.reshape(60, 100)]), order=order)[:], None),
        (tiff(GREY, order=order, photometric=0), 255 - GREY),
        (tiff(deep, order=order, photometric=0), 255 - (deep >> 8)),
    ):
        got = decode(data)
        if expected is not None:
            np.testing.assert_array_equal(got, expected)
    for data, reason in (
        (tiff(np.dstack([deep] * 3), order=order, planar=True), "planar"),
        (tiff(rng.integers(0, 256, (60, 100, 5), np.uint8), order=order, photometric=1, extra=(0,) * 4), "5 bands"),
        (tiff(rng.integers(0, 256, (60, 100, 5), np.uint8), order=order, extra=(0, 0)), "5 bands"),
        (tiff(GREY / 255, order=order, form=3), "floating-point samples of 64 bits"),
        (tiff(deep.astype(np.int16), order=order, form=2), "signed samples of 16 bits"),
        (tiff(GREY.astype(np.int8), order=order, form=2), "signed samples of 8 bits"),
        (tiff(GREY.astype(np.complex64), order=order, form=6), "complex"),
        (tiff(deep, order=order, photometric=32803), "raw camera"),
        (tiff(GREY, order=order, t259=6), "old JPEG"),
        (tiff(GREY, order=order, t273=10**6), "outside of the file"),
        (tiff(GREY, order=order, t279=100), "shorter than its rows"),
        (tiff(GREY, order=order, t257=600, t278=60), "its size needs 10"),
        (tiff(COLOUR, order=order, planar=True)[:-1], "outside of the file"),
        (tiff(GREY, order=order)[:3000], "outside of the file"),
    ):
        with pytest.raises(ImageError, match=reason) as caught:
            decode(data)
        assert "\n" in str(caught.value)  # what to do


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"])
def test_compressed_tiff_strips_that_end_early(compression: str) -> None:
    data = saved(cv2.GaussianBlur(COLOUR, (0, 0), 2), "TIFF", compression=compression)
    assert decode(data).shape == (60, 100, 3)
    start, length = next((o, n) for o, n in strips_of(data))
    with pytest.raises(ImageError):
        decode(with_strip(data, int(length * 0.7)))
    if compression != "tiff_adobe_deflate":  # the only one with a checksum
        return
    noisy = bytearray(data)
    noisy[start + length // 2 : start + length // 2 + 30] = bytes(30)
    with pytest.raises(ImageError):
        decode(bytes(noisy))


def strips_of(data: bytes) -> list[tuple[int, int]]:
    with Image.open(io.BytesIO(data)) as image:
        return list(zip(image.tag_v2[273], image.tag_v2[279], strict=True))


def with_strip(data: bytes, length: int) -> bytes:
    """Returns a TIFF whose first strip says to be of another length."""
    changed = bytearray(data)
    place = struct.unpack_from("<I", data, 4)[0]
    for entry in range(place + 2, place + 2 + 12 * struct.unpack_from("<H", data, place)[0], 12):
        tag, form, count = struct.unpack_from("<HHI", data, entry)
        if tag == 279:
            size = {3: 2, 4: 4}[form]
            at = entry + 8 if count * size <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
            struct.pack_into("<H" if size == 2 else "<I", changed, at, length)
    return bytes(changed)


def vp8l(width: int, height: int) -> bytes:
    """A lossless WebP of 34 bytes and any size."""
    body = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + b"\x88\x88\x08" + bytes(6)
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBPVP8L" + struct.pack("<I", len(body)) + body


def test_what_would_take_too_much_memory_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode(vp8l(100, 100)).shape == (100, 100)
    for data in (vp8l(16383, 16383), png(33000, 33000, b"", colours=2)):
        with pytest.raises(ImageError, match="KNOWNGOOD_MAX_PIXELS"):
            decode(data)
        with pytest.raises(ImageError, match="KNOWNGOOD_MAX_PIXELS"):
            probe(data)
    monkeypatch.setenv("KNOWNGOOD_DECODE_MEMORY", "512 MiB")
    for data in (vp8l(9000, 9000), png(9000, 9000, b"", colours=6, bits=16)):
        with pytest.raises(ImageError, match=r"GiB of memory.*\n.*\n.*KNOWNGOOD_DECODE_MEMORY"):
            decode(data)
    monkeypatch.setenv("KNOWNGOOD_MAX_PIXELS", "5_000")
    with pytest.raises(ImageError, match="5,000 pixels"):
        decode(saved(GREY, "PNG"))
    assert decode(saved(GREY, "PNG"), max_pixels=6000).shape == (60, 100)
    monkeypatch.setenv("KNOWNGOOD_MAX_PIXELS", "many")
    with pytest.raises(ConfigError, match="many"):
        decode(saved(GREY, "PNG"))
    monkeypatch.setenv("KNOWNGOOD_DECODE_MEMORY", "0")
    with pytest.raises(ConfigError, match="KNOWNGOOD_DECODE_MEMORY"):
        decode(saved(GREY, "PNG"), max_pixels=10_000)


def test_extreme_proportions_are_refused_before_decoding() -> None:
    for data in (png(1, 10**6, bytes(2 * 10**6)), png(65500, 1, bytes(65501)), b"P5 1 51 255\n" + bytes(51)):
        for look in (decode, probe):
            with pytest.raises(ImageError, match="extreme proportions"):
                look(data)
    with pytest.raises(ImageError, match="extreme proportions"):
        decode(np.zeros((1, 51), np.uint8))
    assert decode(np.zeros((1, 50), np.uint8)).shape == (1, 50)


def test_alpha_of_a_bmp_that_is_zero_everywhere_is_no_transparency() -> None:
    def bmp(alpha: np.ndarray) -> bytes:
        pixels = np.dstack([COLOUR[..., ::-1], alpha])[::-1].tobytes()
        header = struct.pack("<IiiHHIIiiII", 108, 100, 60, 1, 32, 3, len(pixels), 0, 0, 0, 0)
        header += struct.pack("<IIIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, 0x73524742) + bytes(48)
        return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels

    np.testing.assert_array_equal(decode(bmp(np.zeros((60, 100), np.uint8))), COLOUR)
    half = np.zeros((60, 100), np.uint8)
    half[:30] = 255
    np.testing.assert_array_equal(decode(bmp(half)), COLOUR * (half[..., None] > 0))
    clear = np.dstack([COLOUR, np.zeros((60, 100), np.uint8)])
    assert decode(saved(clear, "PNG")).max() == 0


def test_masks_of_all_kinds_mark_the_same() -> None:
    truth = np.zeros((60, 100), bool)
    truth[20:40, 30:70] = True
    white, deep = truth.astype(np.uint8) * 255, truth.astype(np.uint16)
    colour = np.zeros((60, 100, 3), np.uint8)
    colour[truth] = (128, 0, 0)
    palette = Image.fromarray(truth.astype(np.uint8) * 3)
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 9, 0, 0])
    stream = io.BytesIO()
    palette.save(stream, "PNG")
    classes = truth.astype(np.uint8) + (np.arange(100) > 50) * truth
    for data in (
        saved(white, "PNG"),
        saved(truth.astype(np.uint8), "PNG"),
        saved(truth, "PNG"),
        saved(deep, "PNG"),
        saved(deep * 65535, "TIFF"),
        saved(truth.astype(np.int32), "TIFF"),
        saved(colour, "PNG"),
        saved(classes.astype(np.uint8), "BMP"),
        stream.getvalue(),
        saved(white, "JPEG", quality=60),
    ):
        np.testing.assert_array_equal(read_mask(data, (60, 100)), truth)
    soft = cv2.GaussianBlur(white, (0, 0), 2)
    assert abs(int(read_mask(saved(soft, "PNG"), (60, 100)).sum()) - int(truth.sum())) < 30
    with pytest.raises(ImageError, match=r"100 x 60 pixels, its photograph 50 x 60"):
        read_mask(saved(white, "PNG"), (60, 50))
    with pytest.raises(ImageError, match="none above"):
        read_mask(saved(white // 5, "JPEG"), (60, 100))


@pytest.mark.parametrize(("highest", "bits"), [(1023, 10), (4095, 12), (16383, 14), (65535, 16)])
def test_effective_bits_of_a_16_bit_file(highest: int, bits: int) -> None:
    from knowngood.data.pixels import depth_of, depth_of_set

    samples = rng.integers(0, highest + 1, (60, 100)).astype(np.uint16)
    samples[0, 0] = highest
    for form in ("PNG", "TIFF"):
        assert depth_of(saved(samples, form)) == bits
        assert probe(saved(samples, form)).bit_depth == 16
    assert depth_of(saved(GREY, "PNG")) == probe(saved(GREY, "PNG")).bit_depth == 8
    assert depth_of(b"P5 100 60 4095\n" + (samples.clip(0, 4095)).astype(">u2").tobytes()) in (16, 14, bits)
    assert depth_of_set([bits, None, 8, 10]) == max(bits, 10)
    assert depth_of_set([None]) is None


def test_files_of_a_million_small_parts_are_refused_at_once() -> None:
    frame = b"GIF89a" + struct.pack("<HHBBB", 60, 44, 0x80, 0, 0) + bytes(6)
    picture = b"\x2c" + struct.pack("<HHHHB", 0, 0, 60, 44, 0) + b"\x08"
    pages = struct.pack("<HHI", 256, 4, 1) + struct.pack("<I", 60)
    table = b"II*\0" + struct.pack("<IH", 8, 65535) + pages * 65535
    offsets = tiff(GREY, t273=8)
    number = 3_000_000
    many = bytearray(offsets + bytes(4 * number))
    for entry in range(10, 10 + 12 * 11, 12):
        if struct.unpack_from("<H", many, entry)[0] in (273, 279):
            struct.pack_into("<II", many, entry + 4, number, len(offsets))
    for data, reason in (
        (frame + picture + b"\x01\x00" * 5_000_000, "blocks"),
        (b"\xff\xd8" + b"\xff\xe5\0\2" * 30_000, "segments"),
        (b"RIFF" + struct.pack("<I", 4 + 8 * 300_000) + b"WEBP" + b"JUNK\0\0\0\0" * 300_000, "chunks"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08free" * 300_000, "no codestream"),
        (b"\x89PNG\r\n\x1a\n" + png(9, 9, b"")[8:33] + chunk(b"juNk", b"") * 300_000, "chunks"),
        (table, "entries"),
        (bytes(many), "strips"),
    ):
        with pytest.raises(ImageError, match=reason):
            decode(data)
    commented = b"P2 3 2 255\n" + b"#\n" * 500_000 + b"1 2 3 4 5 6"
    np.testing.assert_array_equal(decode(commented), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("tag", [256, 257, 259, 262, 277, 278, 284])
def test_tiff_tags_with_too_many_values_do_not_make_pillow_warn(tag: int, recwarn: pytest.WarningsRecorder) -> None:
    data = bytearray(tiff(GREY))
    for entry in range(10, 10 + 12 * 11, 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            value = bytes(data[entry + 8 : entry + 12])
            struct.pack_into("<II", data, entry + 4, 2, len(data))
            data += value * 2
    np.testing.assert_array_equal(decode(bytes(data)), GREY)
    assert len(recwarn) == 0
