"""The decoders behind `knowngood.data.images`, given a file whose header is checked; each gives uint8 grey or RGB.

C libraries see only what makes pixels, and only what was found whole, so that they have nothing to print.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import BmpImagePlugin, Image, Jpeg2KImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from knowngood.data.containers import Jpeg, Png
from knowngood.data.header import SIDEWAYS, Header, damaged, unsupported
from knowngood.data.rarer import Bmp, Gif, Jp2, Pnm, Webp
from knowngood.data.tiff import Tiff, bare_tiff
from knowngood.errors import ImageError

Pixels: TypeAlias = npt.NDArray[np.uint8]
_STRIPE = 1 << 20  # pixels that are brought to uint8 at once
_GIF_PASSES = ((0, 8), (4, 8), (2, 4), (1, 2))  # first row and step of an interlaced one
_HARMLESS = ("JFIF revision", "ICC marker")  # complaints about what does not make pixels


def pixels_of(data: bytes, header: Header, name: str, *, lift: bool = False) -> Pixels:
    """Decodes a file of any format.

    Args:
        data: The whole file.
        header: Of `containers.read_header`.
        name: How messages call the image.
        lift: Whether samples above 0 of 16-bit and 32-bit grey stay above 0: masks of 0 and 1 come in such files.

    Returns:
        uint8 (H, W) or (H, W, 3) RGB, upright; grey may still be in three equal channels.

    Raises:
        ImageError: It is damaged, or its samples have a range that is not read.
    """
    if isinstance(header, Jpeg):
        pixels = _jpeg(data, header, name)
    elif isinstance(header, Png) and header.plain:
        flag = cv2.IMREAD_GRAYSCALE if header.mode == "L" else cv2.IMREAD_COLOR_RGB
        decoded = cv2.imdecode(np.frombuffer(header.bare(data), np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
        if decoded is None:
            raise damaged(name, "is damaged")
        pixels = np.asarray(decoded, np.uint8)
    elif isinstance(header, Gif):
        pixels = _gif(data, header, name)
    elif isinstance(header, Pnm):
        pixels = _pnm(data, header, name)
    else:
        with _opened(data, header, name) as image:
            pixels = _of_pillow(image, header, name, lift)
    return turned(pixels, header.orientation)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Returns a picture upright, as a view, given its EXIF orientation 1..8."""
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _jpeg(data: bytes, header: Jpeg, name: str) -> Pixels:
    """Decodes a JPEG whole; whatever libjpeg warns of, if it concerns pixels, is damage."""
    space = {"L": "GRAY", "RGB": "RGB"}.get(header.mode, "CMYK")
    try:
        try:
            pixels = simplejpeg.decode_jpeg(data, space)
        except ValueError as error:
            if not any(word in str(error) for word in _HARMLESS):
                raise
            pixels = simplejpeg.decode_jpeg(_bare_jpeg(data), space)  # the first warning hides those that follow
    except ValueError as error:
        raise damaged(name, f"is damaged: {error}") from error
    if space == "GRAY":
        return np.asarray(pixels[:, :, 0], np.uint8)
    if space == "RGB":
        return np.asarray(pixels, np.uint8)
    made = np.empty((*pixels.shape[:2], 3), np.uint8)  # Adobe's CMYK is inverted
    for rows in _stripes(*pixels.shape[:2]):
        stripe = 255 - pixels[rows]
        made[rows] = np.asarray(Image.fromarray(stripe, "CMYK").convert("RGB"))
    return made


def _bare_jpeg(data: bytes) -> bytes:
    """Returns a JPEG without remarks and profiles, its JFIF header replaced; Adobe's says how colours are meant."""
    at, parts = 2, [data[:2]]
    while data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xE0:
            parts[1:1] = [b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"]
        elif not (0xE1 <= data[at + 1] <= 0xED or data[at + 1] in (0xEF, 0xFE)):
            parts.append(data[at:end])
        at = end
    return b"".join((*parts, memoryview(data)[at:]))


def _gif(data: bytes, header: Gif, name: str) -> Pixels:
    """Decodes the first picture of a GIF onto two grounds: a pixel that keeps both of them never came from the file."""
    body = data[header.content + 1 :]
    grounds = []
    for level in (0, 255):
        for height in (header.height + 1, header.height):  # the row more must stay empty
            ground = Image.new("L", (header.width, height), level)
            try:
                ground.frombytes(body, "gif", (data[header.content], 0, -1))
            except ValueError as error:
                if height == header.height:
                    raise damaged(name, f"is truncated: {error}") from error
                continue  # without an end code a taller one is not filled
            grounds.append(np.asarray(ground))
            break
    empty = (grounds[0] == 0) & (grounds[1] == 255)
    if empty[: header.height].any():
        raise damaged(name, "is truncated: its compressed data end before the end of the picture")
    if not empty[header.height :].all():
        raise damaged(name, "is damaged: its compressed data hold more than its size needs")
    indices = grounds[0][: header.height]
    if header.interlaced:
        order = [row for first, step in _GIF_PASSES for row in range(first, header.height, step)]
        indices = indices[np.argsort(order)]
    colours = np.zeros((256, 3), np.uint8)
    known = np.frombuffer(header.palette, np.uint8).reshape(-1, 3)
    colours[: len(known)] = known
    if header.transparent is not None:
        colours[header.transparent] = 0
    _check_palette(indices, len(known), name)
    if (colours == colours[:, :1]).all():
        return np.asarray(colours[:, 0][indices], np.uint8)
    return np.asarray(colours[indices], np.uint8)


def _check_palette(indices: npt.NDArray[Any], colours: int, name: str) -> None:
    if indices.max() >= colours:
        raise damaged(name, "is damaged: a pixel has a colour that its palette lacks")


def _pnm(data: bytes, header: Pnm, name: str) -> Pixels:
    """Returns the samples of a PBM, PGM, PPM or PFM, stretched from its maximum to 255."""
    bands = 3 if header.kind in b"36" else 1
    shape = (header.height, header.width, bands)
    count = header.height * header.width * bands
    if header.kind == b"f":
        grey = np.frombuffer(data, "<f4" if header.maximum < 0 else ">f4", count, header.start)
        return _to_bytes(grey.reshape(shape[:2])[::-1], 32, name)
    if header.kind == b"4":
        packed = np.frombuffer(data, np.uint8, header.height * (-(-header.width // 8)), header.start)
        bits = np.unpackbits(packed.reshape(header.height, -1), axis=1, count=header.width)
        return np.asarray((bits ^ 1) * np.uint8(255), np.uint8)
    samples: npt.NDArray[Any]
    if header.kind in b"56":
        samples = np.frombuffer(data, np.uint8 if header.maximum < 256 else ">u2", count, header.start)
    else:
        samples = _plain(data[header.start :], count, name, packed=header.kind == b"1")
    if samples.max() > header.maximum:
        raise damaged(name, f"is damaged: it holds samples above its maximum of {header.maximum:g}")
    samples = samples.reshape(shape if bands == 3 else shape[:2])
    if header.kind == b"1":
        return np.asarray((1 - samples) * 255, np.uint8)
    if header.maximum == 255:
        return samples.astype(np.uint8)  # a copy: the bytes of the file cannot be written to
    levels = np.arange(int(header.maximum) + 1) / header.maximum
    table = np.rint(levels * 255) if header.maximum < 256 else np.rint(levels * 65535).astype(np.uint32) >> 8
    return np.asarray(table.astype(np.uint8)[samples], np.uint8)


def _plain(text: bytes, count: int, name: str, *, packed: bool) -> npt.NDArray[Any]:
    """Returns the samples of a file that writes them as numbers."""
    if b"#" in text:
        text = re.sub(rb"#[^\r\n]*", b"", text)  # remarks up to the end of their line
    if text.translate(None, b"0123456789 \t\n\r\v\f"):
        raise damaged(name, "is damaged: among its numbers is something else")
    if packed:
        samples = np.frombuffer(text.translate(None, b" \t\n\r\v\f"), np.uint8) - np.uint8(48)
    else:
        samples = np.fromstring(text, np.int32, sep=" ")
    if len(samples) != count:
        raise damaged(name, f"is damaged: it holds {len(samples):,} samples where its size needs {count:,}")
    return np.asarray(samples)


@contextlib.contextmanager
def _opened(data: bytes, header: Header, name: str) -> Iterator[Image.Image]:
    """Opens a file with Pillow's class for its format: nothing is guessed, and no limit of Pillow's warns."""
    if isinstance(header, Tiff):
        try:
            image = TiffImagePlugin.TiffImageFile(io.BytesIO(bare_tiff(data, header)))
        except SyntaxError as error:
            what = f"holds {header.bits}-bit samples in an order that is not read"
            raise unsupported(name, what, expected="8 or 16 bits in the usual order") from error
        with image:
            image.im = Image.core.new(image.mode, (header.width, header.height))  # type: ignore[attr-defined]
            with _quiet_libtiff():
                image.load()
            yield image
        return
    if isinstance(header, Png):
        kind: Any = PngImagePlugin.PngImageFile
        data = header.bare(data)
    elif isinstance(header, Webp):
        kind, data = WebPImagePlugin.WebPImageFile, header.bare(data)
    elif isinstance(header, Bmp):
        kind, data = BmpImagePlugin.BmpImageFile, header.missing + data
    else:
        assert isinstance(header, Jp2)
        kind = Jpeg2KImagePlugin.Jpeg2KImageFile
    with kind(io.BytesIO(data)) as image:
        image.load()
        yield image


def _of_pillow(image: Image.Image, header: Header, name: str, lift: bool) -> Pixels:
    """Brings any mode of Pillow's to uint8 grey or RGB, a stripe at a time, transparency on black."""
    if image.size != (header.width, header.height):
        raise damaged(name, f"is damaged: it decodes to {image.size} where its header says otherwise")
    mode, seen = image.mode, image
    deep = mode.startswith("I") or mode == "F"
    clear = mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    if clear and isinstance(header, Bmp) and not image.getchannel("A").getextrema()[1]:
        seen, mode, clear = image.convert("RGB"), "RGB", False  # cameras leave the fourth byte of a BMP unused
    made: Pixels | None = None
    for rows in _stripes(header.height, header.width):
        stripe = seen.crop((0, rows.start, header.width, rows.stop))
        if deep:
            samples = np.asarray(stripe)
            part = _to_bytes(samples, header.bits if isinstance(header, Tiff) else 16, name)
            part = np.maximum(part, samples > 0) if lift else part
        elif mode in ("La", "RGBa"):  # alpha is multiplied in already, which is the same as lying on black
            part = np.asarray(stripe)[..., :-1]
        elif clear:
            if "transparency" in image.info:
                stripe.info["transparency"] = image.info["transparency"]
            part = _on_black(np.asarray(stripe.convert("RGBA")))
        else:
            part = np.asarray(stripe.convert("L" if mode in ("1", "L") else "RGB"))
        if isinstance(header, (Png, Bmp)) and header.colours and mode == "P":
            _check_palette(np.asarray(stripe), header.colours, name)
        part = part[:, :, 0] if part.ndim == 3 and part.shape[2] == 1 else part
        if made is None:
            made = np.empty((header.height, header.width, *part.shape[2:]), np.uint8)
        made[rows] = part
    assert made is not None
    if isinstance(header, Tiff) and header.photometric == 0 and header.bits > 8:
        np.subtract(255, made, out=made)
    return made


def _stripes(height: int, width: int) -> Iterator[slice]:
    rows = max(1, _STRIPE // width)
    return (slice(start, min(start + rows, height)) for start in range(0, height, rows))


def _on_black(rgba: npt.NDArray[Any]) -> Pixels:
    alpha = rgba[..., 3:].astype(np.uint16)
    return np.asarray((rgba[..., :3].astype(np.uint16) * alpha + 127) // 255, np.uint8)


def _to_bytes(samples: npt.NDArray[Any], bits: int, name: str) -> Pixels:
    """Brings deep grey (H, W) to 8 bits by the fixed rules of `knowngood.data.images`."""
    if samples.dtype.kind == "f":
        low, high = float(samples.min()), float(samples.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # also true for NaN
            raise ImageError(
                f"{name!r} holds floating-point grey from {low:g} to {high:g}.",
                expected="0 (black) to 1 (white)",
                fix="Export it as 8-bit or 16-bit grey.",
            )
        return np.asarray(np.rint(np.clip(samples, 0, 1) * 255), np.uint8)
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > 0xFFFF:
        raise ImageError(
            f"{name!r} holds integer grey from {low} to {high}.",
            expected="0 (black) to 65535 (white)",
            fix="Export it as 8-bit or 16-bit grey.",
        )
    return (samples.astype(np.uint32) >> (4 if bits == 12 else 8)).astype(np.uint8)


_SILENCING = threading.Lock()
_silenced: bool | None = None


@contextlib.contextmanager
def _quiet_libtiff() -> Iterator[None]:
    """Keeps libtiff from printing about damage, which becomes an error here.

    Its handlers are taken away where the library that Pillow loaded can be reached. Elsewhere standard error is turned
    away meanwhile, one file after the other.
    """
    global _silenced  # noqa: PLW0603
    with _SILENCING:
        if _silenced is None:
            _silenced = _without_handlers()
    if _silenced:
        yield
        return
    with _SILENCING:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _without_handlers() -> bool:
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        paths = {line.split(None, 5)[5] for line in lines if "libtiff" in line}
        for path in paths:
            library = ctypes.CDLL(path)
            for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
                setter(None)
    except (OSError, AttributeError, IndexError):
        return False
    return bool(paths)
