"""The decoders behind `knowngood.data.images`: a fast library for common files, Pillow for the others."""

from __future__ import annotations

import io
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from knowngood.data.containers import PngFacts
from knowngood.errors import ImageError

Pixels: TypeAlias = npt.NDArray[np.uint8]

# Not every format Pillow knows: EPS starts Ghostscript, and formats without a signature take text for pixels.
# MPO needs no mention: its files are opened as JPEG.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP", "PPM", "JPEG2000")
Image.init()  # registers all formats now, in one thread
_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)


class Opened:
    """Opens the header with Pillow; whatever goes wrong inside the block becomes an `ImageError`."""

    def __init__(self, data: bytes, name: str, max_pixels: int) -> None:
        self.data, self.name, self.max_pixels = data, name, max_pixels
        self.image: Image.Image | None = None

    def __enter__(self) -> Image.Image:
        try:
            self.image = Image.open(io.BytesIO(self.data), formats=_FORMATS)
        except UnidentifiedImageError as error:
            raise ImageError(
                f"{self.name!r} is not an image: it begins with {self.data[:12]!r}.",
                expected="PNG, JPEG, TIFF, BMP, WebP, GIF, PNM or JPEG 2000",
            ) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise self._bomb("more pixels than Pillow opens") from error
        except Exception as error:  # decoders raise nearly anything on damaged bytes
            raise self._damaged(error) from error
        width, height = self.image.size
        if width * height > self.max_pixels:
            raise self._bomb(f"{width} x {height} pixels")
        if width == 0 or height == 0:
            raise ImageError(f"{self.name!r} has no pixels ({width} x {height}).")
        return self.image

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.image is not None:
            self.image.close()
        if isinstance(error, Exception) and not isinstance(error, ImageError):
            raise self._damaged(error) from error

    def _bomb(self, detail: str) -> ImageError:
        return ImageError(
            f"{self.name!r} is too large to decode: {detail}.",
            expected=f"at most {self.max_pixels:,} pixels",
            fix="Leave it out, or crop it.",
        )

    def _damaged(self, error: Exception) -> ImageError:
        reason = str(error).strip() or type(error).__name__
        return ImageError(f"{self.name!r} cannot be decoded: {reason}.", fix="Copy it again from its origin.")


def orientation_of(image: Image.Image, png: PngFacts | None) -> int:
    """Reads the EXIF orientation 1..8; asking a PNG costs a decode, so only where a chunk could hold one."""
    if png is not None and not png.may_turn:
        return 1
    if image.format in ("JPEG", "MPO") and not image.info.keys() & {"exif", "xmp"}:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def fast_pixels(
    data: bytes, image: Image.Image, png: PngFacts | None, name: str, at_least: tuple[int, int] | None = None
) -> Pixels | None:
    """Decodes common files with the fastest library that gives Pillow's pixels; else returns None.

    With `at_least` (height, width) a JPEG may come out smaller, by 1/2, 1/4 or 1/8, but not smaller than that: its
    blocks are transformed back at the smaller size, which is a good low-pass filter and saves most of the work.
    """
    if png is not None and png.plain:
        flag = cv2.IMREAD_GRAYSCALE if image.mode == "L" else cv2.IMREAD_COLOR_RGB
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        return None if decoded is None else np.asarray(decoded, dtype=np.uint8)
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None
    try:
        height, width = at_least or (0, 0)  # 0 is the full size
        if at_least is not None and orientation_of(image, None) in SIDEWAYS:
            height, width = width, height
        colours = "GRAY" if image.mode == "L" else "RGB"
        pixels = simplejpeg.decode_jpeg(data, colours, min_height=height, min_width=width)
    except ValueError as error:
        if "bad Huffman" in str(error) or "remature end" in str(error):
            raise ImageError(f"{name!r} is damaged: {error}.", fix="Copy it again from its origin.") from error
        return None  # something harmless or unusual: Pillow judges
    if image.mode == "L":
        pixels = pixels[:, :, 0]
    return np.asarray(_turned(pixels, orientation_of(image, None)), dtype=np.uint8)


def general_pixels(image: Image.Image, name: str) -> Pixels:
    """Decodes any file with Pillow and brings its mode to uint8 grey or RGB, turned upright."""
    image.load()
    orientation = orientation_of(image, None)  # after loading: a TIFF has been turned by then and says 1
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return np.asarray(_turned(_deep_grey(np.asarray(image), name), orientation), dtype=np.uint8)
    if mode in ("La", "RGBa"):  # alpha is multiplied in already, which is the same as lying on black
        pixels = np.asarray(image)[..., :-1]
    elif mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        pixels = _on_black(np.asarray(image.convert("RGBA")))
    elif mode in ("1", "L"):
        pixels = np.asarray(image.convert("L"))
    else:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return np.asarray(_turned(pixels, orientation), dtype=np.uint8)


def brightest_sample(data: bytes, image: Image.Image) -> int | None:
    """Returns the largest sample of a 16-bit file, or None where its samples have 8 bits."""
    unchanged = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if unchanged is None:
        image.load()
        unchanged = np.asarray(image)
    return int(unchanged.max()) if unchanged.dtype.itemsize > 1 else None


def _on_black(rgba: npt.NDArray[Any]) -> Pixels:
    alpha = rgba[..., 3:].astype(np.uint16)
    return np.asarray((rgba[..., :3].astype(np.uint16) * alpha + 127) // 255, np.uint8)


def _deep_grey(samples: npt.NDArray[Any], name: str) -> Pixels:
    """Brings 16-bit, 32-bit and float grey to 8 bits by the fixed rules of `knowngood.data.images`."""
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
    return (samples.astype(np.uint32) >> 8).astype(np.uint8)
