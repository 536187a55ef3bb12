"""Decoding follows fixed rules and ends in an array or an `ImageError`, never in anything else."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from knowngood.data.images import decode, probe, verify
from knowngood.errors import ImageError


def picture(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    """Smooth colour with some noise, so that JPEG has something to keep."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = [100 + 80 * np.sin(x / (7 + c) + c) * np.cos(y / (5 + c)) for c in range(channels)]
    noisy = np.stack(planes, -1) + rng.normal(0, 4, (height, width, channels))
    pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    mode=st.sampled_from(["L", "RGB"]),
    form=st.sampled_from(["PNG", "BMP", "TIFF", "WEBP", "PPM", "GIF"]),
)
@settings(max_examples=60, deadline=None)
def test_lossless_files_give_back_their_pixels(height: int, width: int, mode: str, form: str) -> None:
    pixels = picture(height, width, 1 if mode == "L" else 3)
    if form == "GIF":
        pixels = (pixels if pixels.ndim == 2 else pixels[..., 0]) // 2
    options = {"lossless": True} if form == "WEBP" else {}
    got = decode(saved(Image.fromarray(pixels), form, **options))
    equal = pixels.ndim == 3 and bool((pixels == pixels[..., :1]).all())
    np.testing.assert_array_equal(got, pixels[..., 0] if equal else pixels)
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous


@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    mode=st.sampled_from(["L", "RGB"]),
    quality=st.integers(30, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_jpegs_equal_pillow(
    height: int, width: int, mode: str, quality: int, subsampling: int, progressive: bool
) -> None:
    image = Image.fromarray(picture(height, width, 1 if mode == "L" else 3))
    data = saved(image, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    got = decode(data).astype(int)
    expected = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    if got.ndim == 2 and expected.ndim == 3:
        expected = expected[..., 0]
    assert np.abs(got - expected).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, form: str) -> None:
    image = Image.fromarray(picture(40, 24, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    data = saved(image, form, exif=exif, **options)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
    got = decode(data)
    assert np.abs(got.astype(int) - upright).max() <= 2
    facts = probe(data)
    assert (facts.height, facts.width) == got.shape[:2]


def test_orientation_in_a_text_chunk_is_applied_and_remarks_are_not_read() -> None:
    pixels = picture(6, 9, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    for key, text, turned in (
        ("Raw profile type exif", f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n", True),
        ("Comment", "orientation 6", False),
    ):
        info = PngImagePlugin.PngInfo()
        info.add_text(key, text)
        data = saved(Image.fromarray(pixels), "PNG", pnginfo=info)
        expected = np.rot90(pixels, -1) if turned else pixels
        np.testing.assert_array_equal(decode(data), expected)
        assert (probe(data).width, probe(data).height) == expected.shape[::-1]


def test_equal_channels_are_grey() -> None:
    grey = picture(20, 30, 1)
    colour = Image.merge("RGB", [Image.fromarray(grey)] * 3)
    assert decode(saved(colour, "PNG")).shape == (20, 30)
    assert decode(saved(colour, "JPEG")).shape == (20, 30)
    assert decode(np.stack([grey] * 3, -1)).shape == (20, 30)
    almost = np.stack([grey] * 3, -1)
    almost[7, 5, 2] ^= 1
    assert decode(saved(Image.fromarray(almost), "PNG")).shape == (20, 30, 3)


def test_sixteen_bits_keep_their_high_byte() -> None:
    deep = (np.arange(256, dtype=np.uint32) * 257).astype(np.uint16).reshape(16, 16)
    for form in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(saved(Image.fromarray(deep), form)).ravel(), np.arange(256))
    dark = np.full((4, 4), 4095, np.uint16)  # right-aligned 12 bits are not stretched
    assert decode(saved(Image.fromarray(dark), "PNG")).max() == 15


def test_integers_and_floats_have_a_fixed_range() -> None:
    ints = Image.fromarray(np.array([[0, 65535], [256, 511]], np.int32))
    np.testing.assert_array_equal(decode(saved(ints, "TIFF")), [[0, 255], [1, 1]])
    floats = Image.fromarray(np.array([[0.0, 1.0], [0.5, 0.25]], np.float32))
    np.testing.assert_array_equal(decode(saved(floats, "TIFF")), [[0, 255], [128, 64]])
    for wrong in (np.float32(213), np.float32(np.nan), np.int32(-1), np.int32(70000)):
        with pytest.raises(ImageError, match="grey from"):
            decode(saved(Image.fromarray(np.full((2, 2), wrong)), "TIFF"))


def test_palette_bilevel_and_cmyk() -> None:
    colour = Image.fromarray(picture(24, 24, 3)).quantize(16)
    np.testing.assert_array_equal(decode(saved(colour, "PNG")), np.asarray(colour.convert("RGB")))
    grey = Image.fromarray(picture(24, 24, 1)).quantize(16)
    np.testing.assert_array_equal(decode(saved(grey, "PNG")), np.asarray(grey.convert("L")))
    bilevel = Image.fromarray(picture(24, 24, 1) > 100)
    assert set(np.unique(decode(saved(bilevel, "PNG")))) == {0, 255}
    pixels = picture(24, 24, 3)
    cmyk = decode(saved(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=98))  # Pillow writes Adobe's inverse
    assert np.abs(cmyk.astype(int) - pixels).mean() < 6


def test_transparency_lies_on_black() -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., :3] = (200, 100, 50)
    rgba[0, 0, 3], rgba[0, 1, 3] = 255, 128
    got = decode(saved(Image.fromarray(rgba), "PNG"))
    np.testing.assert_array_equal(got[0, 0], [200, 100, 50])
    np.testing.assert_array_equal(got[0, 1], [100, 50, 25])
    np.testing.assert_array_equal(got[1, 1], [0, 0, 0])
    la = Image.merge("LA", [Image.new("L", (3, 2), 80), Image.new("L", (3, 2), 255)])
    np.testing.assert_array_equal(decode(saved(la, "PNG")), np.full((2, 3), 80))
    keyed = saved(Image.new("RGB", (3, 2), (9, 8, 7)), "PNG", transparency=(9, 8, 7))
    assert decode(keyed).max() == 0


def test_animation_gives_its_first_picture() -> None:
    frames = [Image.fromarray(np.full((5, 6), v, np.uint8)) for v in (10, 200)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode(data), np.full((5, 6), 10))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_truncated_files_are_refused(form: str, keep: float) -> None:
    data = saved(Image.fromarray(picture(80, 80, 3)), form)
    with pytest.raises(ImageError):
        decode(data[: int(len(data) * keep)])


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_verify_sees_truncation_without_decoding(form: str) -> None:
    data = saved(Image.fromarray(picture(80, 80, 3)), form)
    assert verify(data, name="x").width == 80
    with pytest.raises(ImageError, match="truncated"):
        verify(data[:-40], name="x")


def test_flipped_bit_in_png_pixels_is_refused() -> None:
    data = bytearray(saved(Image.fromarray(picture(60, 60, 1)), "PNG"))
    data[data.index(b"IDAT") + 200] ^= 4
    with pytest.raises(ImageError, match="checksum"):
        decode(bytes(data))


_MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK"]
_FORMS = ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000"]


@given(
    mode=st.sampled_from(_MODES),
    form=st.sampled_from(_FORMS),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    seed=st.integers(0, 2**32 - 1),
    damage=st.sampled_from(["flip", "cut", "insert", "none"]),
)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_give_an_array_or_an_image_error(
    mode: str, form: str, size: tuple[int, int], seed: int, damage: str
) -> None:
    image = Image.new(mode, size, 1) if mode in ("I;16", "I", "F") else Image.new("RGB", size, 77).convert(mode)
    try:
        data = bytearray(saved(image, form))
    except (OSError, ValueError, KeyError):
        return  # that format cannot hold that mode
    dice = random.Random(seed)
    if damage == "flip":
        for _ in range(dice.randint(1, 8)):
            data[dice.randrange(len(data))] = dice.randrange(256)
    elif damage == "cut":
        del data[dice.randrange(len(data)) :]
    elif damage == "insert":
        at = dice.randrange(len(data))
        data[at:at] = dice.randbytes(dice.randint(1, 40))
    try:
        got = decode(bytes(data), max_pixels=10**6)
    except ImageError:
        assert damage != "none" or mode in ("I", "F")
        return
    assert got.dtype == np.uint8
    assert got.size
    assert got.ndim == 2 or (got.ndim == 3 and got.shape[2] == 3)
    facts = probe(bytes(data))
    assert (facts.height, facts.width) == got.shape[:2]


@given(st.binary(max_size=200))
@settings(max_examples=80, deadline=None)
def test_noise_is_refused(data: bytes) -> None:
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"GIF89a"):
        with pytest.raises(ImageError):
            decode(start + data)


def test_bomb_is_refused_from_its_header() -> None:
    data = saved(Image.new("1", (1200, 1200)), "PNG")
    with pytest.raises(ImageError, match="too large"):
        decode(data, max_pixels=10**6)
    with pytest.raises(ImageError, match="too large"):
        probe(data, max_pixels=10**6)
    bomb = bytearray(data)
    bomb[16:24] = struct.pack(">II", 60000, 60000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    with pytest.raises(ImageError, match="too large"):
        decode(bytes(bomb))


def test_messages_name_the_file(tmp_path: Path) -> None:
    text = tmp_path / "photo.png"
    text.write_text("hello, I am a text file")
    empty = tmp_path / "empty.jpg"
    empty.touch()
    with pytest.raises(ImageError, match=r"photo\.png.*not an image.*hello"):
        decode(text)
    with pytest.raises(ImageError, match=r"empty\.jpg.*empty"):
        decode(empty)
    with pytest.raises(ImageError, match=r"no file .*gone\.png"):
        decode(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="is not a file"):
        decode(tmp_path)
    with pytest.raises(ImageError):
        decode("null\0byte.png")
    with pytest.raises(ImageError):
        decode(b"")
    with pytest.raises(ImageError):
        decode(3)  # type: ignore[arg-type]


def test_pipe_is_refused_without_reading(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="is not a file"):
        decode(tmp_path / "pipe.png")


def test_absurdly_large_file_is_refused_without_reading(tmp_path: Path) -> None:
    huge = tmp_path / "huge.png"
    with huge.open("wb") as handle:
        handle.truncate((1 << 30) + 1)  # sparse: takes no room
    with pytest.raises(ImageError, match="absurdly large"):
        decode(huge)


def test_permission_denied(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(saved(Image.new("L", (2, 2)), "PNG"))
    secret.chmod(0)
    if os.access(secret, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(ImageError, match="permission"):
        decode(secret)


@pytest.mark.parametrize("name", ["a b.png", 'it\'s "q".png', "new\nline.png", "Prüfling 部品.png"])
def test_odd_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(saved(Image.new("L", (3, 2), 9), "PNG"))
    assert decode(tmp_path / name).shape == decode(str(tmp_path / name)).shape == (2, 3)


def test_one_pixel() -> None:
    for form in ("PNG", "JPEG", "GIF", "BMP"):
        assert decode(saved(Image.new("L", (1, 1), 50), form)).shape == (1, 1)


def test_arrays_are_checked() -> None:
    assert decode(np.zeros((2, 3, 1), np.uint8)).shape == (2, 3)
    assert decode(picture(4, 5, 3)).shape == (4, 5, 3)
    for wrong in (
        np.zeros((2, 3)),
        np.zeros((2, 3, 4), np.uint8),
        np.zeros((0, 3), np.uint8),
        np.zeros(3, np.uint8),
    ):
        with pytest.raises(ImageError, match="shape"):
            decode(wrong)
    with pytest.raises(ImageError):
        probe(np.zeros((2, 2), np.uint8))
