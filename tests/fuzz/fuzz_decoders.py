"""Hostile image files, decoded in a watched child process: crashes, hangs, memory, noise, pixels that differ silently.

    python tests/fuzz/fuzz_decoders.py --count 100000 --out benchmarks/results/fuzz_decoders.json

Input number i of a seed is always the same bytes, so that a run that was stopped goes on where it was, and a failure
can be made again with --show i. What counts as a failure of an input:

- crash: the child dies;
- hang: it computes for more than 5 seconds (of its own time, not of a busy machine's);
- memory: it takes more than 1.5 GB;
- foreign: something else than an array or an `ImageError` comes out;
- noise: something is written to standard output or standard error;
- differs: the file is accepted, another decoder (OpenCV for what Pillow or simplejpeg decoded, Pillow for the others)
  accepts it too, without a warning, and the pixels are others (JPEG and lossy files: by more than 8 levels);
- warned: a JPEG is accepted though OpenCV's libjpeg warns (of more than the version of JFIF).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import select
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SECONDS, MEMORY = 5.0, 1_500_000_000
FAILURES = ("crash", "hang", "memory", "foreign", "noise", "differs", "warned")
PER_SAVE = 2000
SIDES = (0, 1, 2, 7, 8, 255, 256, 4096, 16383, 16384, 32768, 65500, 65535, 65536, 10**5, 2**31 - 1, 2**31, 2**32 - 1)


# --- sound files -----------------------------------------------------------------------------------------------------


def corpus() -> dict[str, bytes]:
    """Returns sound files of every format and kind, by name ("png L interlace")."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:44, :60]
    planes = [
        np.clip(100 + 80 * np.sin(x / (5 + k)) * np.cos(y / 4) + rng.normal(0, 6, x.shape), 0, 255) for k in range(4)
    ]
    pixels = np.stack(planes, -1).astype(np.uint8)
    colour = Image.fromarray(pixels[..., :3])
    grey = Image.fromarray(pixels[..., 0])
    images = {
        "L": grey,
        "RGB": colour,
        "RGBA": Image.fromarray(pixels, "RGBA"),
        "LA": Image.merge("LA", [grey, Image.fromarray(pixels[..., 1])]),
        "P": colour.quantize(40),
        "1": grey.point(lambda v: 255 * (v > 100)).convert("1"),
        "I;16": Image.fromarray(pixels[..., 0].astype(np.uint16) * 257),
        "F": Image.fromarray((pixels[..., 0] / 255).astype(np.float32)),
        "CMYK": colour.convert("CMYK"),
    }
    exif = Image.Exif()
    exif[0x0112] = 6
    more = [Image.fromarray(pixels[..., k]) for k in (1, 2)]
    several = {"save_all": True, "append_images": more}
    kinds: dict[str, list[dict[str, Any]]] = {
        "PNG": [{}, {"compress_level": 0}, {"exif": exif}, several],
        "JPEG": [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"subsampling": 0}, {"exif": exif}],
        "BMP": [{}],
        "GIF": [{"interlace": 0}, {"interlace": 1}, several],
        "WEBP": [{"lossless": True}, {"quality": 80}, {"lossless": True, **several}],
        "PPM": [{}],
        "JPEG2000": [{}, {"irreversible": True}, {"no_jp2": True}, {"tile_size": (32, 32)}],
        "TIFF": [
            *({"compression": one} for one in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd")),
            {"compression": "tiff_lzw", "strip_size": 500, "tiffinfo": {317: 2}},
            {"big_tiff": True},
            {"strip_size": 300},
            several,
        ],
    }
    found: dict[str, bytes] = {}
    for form, options in kinds.items():
        for mode, image in images.items():
            for number, option in enumerate(options):
                if (option.get("compression") == "jpeg" and mode not in ("L", "RGB")) or (
                    "tiffinfo" in option and mode == "1"
                ):
                    continue  # libtiff would print that it cannot
                stream = io.BytesIO()
                try:
                    image.save(stream, form, **option)
                except (OSError, ValueError, KeyError, TypeError, AttributeError):
                    continue  # this format cannot hold that
                found[f"{form.lower()} {mode} {number}"] = stream.getvalue()
    numbers = b" ".join(b"%d" % v for v in pixels[..., 0].ravel())
    found["ppm plain"] = b"P2\n60 44\n255\n" + numbers
    found["ppm float"] = b"Pf\n60 44\n-1.0\n" + (pixels[..., 0] / 255).astype("<f4").tobytes()
    return found


# --- hostile ones ----------------------------------------------------------------------------------------------------


def flipped(data: bytes, dice: random.Random, _: list[bytes]) -> bytes:
    made = bytearray(data)
    for _n in range(dice.choice((1, 1, 1, 2, 4, 8))):
        made[dice.randrange(len(made))] ^= 1 << dice.randrange(8)
    return bytes(made)


def replaced(data: bytes, dice: random.Random, _: list[bytes]) -> bytes:
    made = bytearray(data)
    start, length = dice.randrange(len(made)), dice.randint(1, 16)
    made[start : start + length] = dice.choice((bytes(length), b"\xff" * length, dice.randbytes(length)))
    return bytes(made)


def cut(data: bytes, dice: random.Random, _: list[bytes]) -> bytes:
    return data[: dice.randrange(1, len(data))]


def longer(data: bytes, dice: random.Random, others: list[bytes]) -> bytes:
    extra = dice.choice((dice.randbytes(dice.randint(1, 2000)), dice.choice(others), data, bytes(5000)))
    at = dice.choice((len(data), len(data), dice.randrange(len(data))))
    return data[:at] + extra + data[at:]


def shorter(data: bytes, dice: random.Random, _: list[bytes]) -> bytes:
    start = dice.randrange(len(data))
    return data[:start] + data[start + dice.randint(1, 400) :]


def spliced(data: bytes, dice: random.Random, others: list[bytes]) -> bytes:
    other = dice.choice(others)
    return data[: dice.randrange(len(data))] + other[dice.randrange(len(other)) :]


def header_lie(data: bytes, dice: random.Random, _: list[bytes]) -> bytes:
    """Overwrites a whole number near the beginning, or in the last directory of a TIFF, with a telling one."""
    made = bytearray(data)
    end = min(len(made), 200)
    if data[:2] in (b"II", b"MM") and dice.random() < 0.7:
        order = "<" if data[:2] == b"II" else ">"
        start = struct.unpack_from(order + "I", data, 4)[0]
        start, end = min(start, len(made) - 8), min(len(made), start + 300)
    else:
        start = 2
    form = dice.choice("<>") + dice.choice("HHI")
    at = dice.randrange(start, max(start + 1, end - 4))
    value = dice.choice(SIDES) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
    struct.pack_into(form, made, min(at, len(made) - 4), value)
    if data.startswith(b"\x89PNG"):
        made[29:33] = struct.pack(">I", zlib.crc32(made[12:29]))
    return bytes(made)


def giant(data: bytes, dice: random.Random, _: list[bytes]) -> bytes:
    """Writes a huge, thin or empty size where the format keeps it."""
    wide, tall = dice.choice(SIDES), dice.choice(SIDES)
    made = bytearray(data)
    if data.startswith(b"\x89PNG"):
        made[16:24] = struct.pack(">II", wide & 0x7FFFFFFF, tall & 0x7FFFFFFF)
        made[29:33] = struct.pack(">I", zlib.crc32(made[12:29]))
    elif data.startswith(b"\xff\xd8"):
        frame = re.search(rb"\xff[\xc0-\xc2]", data)
        if frame:
            made[frame.start() + 5 : frame.start() + 9] = struct.pack(">HH", tall & 0xFFFF, wide & 0xFFFF)
    elif data.startswith(b"BM"):
        made[18:26] = struct.pack("<II", wide, tall)
    elif data.startswith(b"GIF8"):
        made[6:10] = sides = struct.pack("<HH", wide & 0xFFFF, tall & 0xFFFF)
        picture = data.find(b"\x2c\0\0\0\0")
        if dice.random() < 0.7 and picture > 0:
            made[picture + 5 : picture + 9] = sides
    elif data.startswith(b"RIFF"):
        if data[12:16] == b"VP8L":
            made[21:25] = struct.pack("<I", (wide - 1 & 0x3FFF) | (tall - 1 & 0x3FFF) << 14)
        elif data[12:16] == b"VP8X":
            made[24:30] = struct.pack("<I", wide & 0xFFFFFF)[:3] + struct.pack("<I", tall & 0xFFFFFF)[:3]
        else:
            made[26:30] = struct.pack("<HH", wide & 0x3FFF, tall & 0x3FFF)
    elif data[:1] == b"P":
        return re.sub(rb"60\s+44", b"%d %d" % (wide, tall), data, count=1)
    elif data[:2] in (b"II", b"MM"):
        order, place = ("<" if data[:2] == b"II" else ">"), 0
        place = struct.unpack_from(order + "I", data, 4)[0]
        for entry in range(place + 2, min(len(data) - 12, place + 300), 12):
            if struct.unpack_from(order + "H", data, entry)[0] in (256, 257, 278, 322, 323) and dice.random() < 0.6:
                struct.pack_into(order + "HII", made, entry + 2, 4, 1, dice.choice(SIDES))
    else:
        siz = data.find(b"\xff\x51")
        fields = struct.pack(">II", wide, tall)
        made[siz + 6 : siz + 14] = fields
        if dice.random() < 0.7:
            made[siz + 22 : siz + 30] = fields if dice.random() < 0.5 else struct.pack(">II", 1, 1)
        box = data.find(b"ihdr")
        if box > 0:
            made[box + 4 : box + 12] = struct.pack(">II", tall, wide)
    return bytes(made)


def restreamed(data: bytes, dice: random.Random, _: list[bytes]) -> bytes:
    """Gives a PNG another stream than its header needs: shorter, longer, a bomb, without its end, in many chunks."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    width, height = dice.choice(((60, 44), (60, 44), (300, 200), (3000, 2000), (12_000, 8_000)))
    colours, bits = dice.choice(((0, 8), (2, 8), (6, 8), (0, 16), (3, 8), (0, 1)))
    passes = dice.random() < 0.2
    row = 1 + -(-width * {0: 1, 2: 3, 3: 1, 6: 4}[colours] * bits // 8)
    kind = dice.choice(("exact", "short", "long", "endless", "endless", "filter", "bits"))
    size = row * height
    size = {"short": dice.randrange(size), "long": size + dice.randint(1, 3 * row), "endless": 4 * size}.get(kind, size)
    raw = bytes(size) if dice.random() < 0.7 or size > 10**6 else dice.randbytes(size)
    if kind != "filter" and raw[:1] != b"\0" and not passes:
        raw = b"".join(b"\0" + raw[at + 1 : at + row] for at in range(0, len(raw), row))
    packed = zlib.compress(raw, dice.choice((0, 6)) if size < 10**6 else 1)
    if kind == "bits":
        packed = flipped(packed, dice, [])
    step = dice.choice((len(packed), 1 + len(packed) // 3, 64)) if len(packed) < 10**5 else len(packed)
    body = b"".join(chunk(b"IDAT", packed[at : at + step]) for at in range(0, len(packed), step))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, passes))
    palette = chunk(b"PLTE", bytes(3 * dice.choice((1, 20, 256)))) if colours == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + head + palette + body + chunk(b"IEND", b"")


def polyglot(data: bytes, dice: random.Random, others: list[bytes]) -> bytes:
    """Begins as one format and goes on as another."""
    other = dice.choice(others)
    starts = (
        b"\0\0\1\0\1\0",
        b"%PDF-1.4\n",
        b"#!/bin/sh\n",
        b"BM",
        b"GIF89a",
        b"P5 60 44 255\n",
        b"\xff\xd8\xff\xe0",
        b"PK\3\4",
    )
    return dice.choice(
        (dice.choice(starts) + data, other[: dice.randint(4, 64)] + data, data + other, data[:64] + other)
    )


def many_scans(data: bytes, dice: random.Random, _: list[bytes]) -> bytes:
    """Repeats scans of a JPEG, frames of an animation, or a comment of any format."""
    scans = [found.start() for found in re.finditer(rb"\xff\xda", data)]
    if data.startswith(b"\xff\xd8") and scans:
        scan = data[dice.choice(scans) : -2]
        return data[:-2] + scan * dice.choice((1, 3, 50, 2000)) + b"\xff\xd9"
    if data.startswith(b"GIF8"):
        at = data.find(b"\x2c")
        return data[:at] + b"\x21\xfe" + (b"\xff" + b"x" * 255) * dice.choice((1, 100, 20_000)) + b"\0" + data[at:]
    if data[:1] == b"P":
        return data[:3] + b"#" + b"x" * dice.choice((10, 5000, 10**6)) + b"\n" + data[3:]
    return data + data * dice.choice((1, 5, 50))


MUTATIONS: dict[str, Callable[[bytes, random.Random, list[bytes]], bytes]] = {
    "flip bits": flipped,
    "replace bytes": replaced,
    "truncate": cut,
    "insert bytes": longer,
    "delete bytes": shorter,
    "splice": spliced,
    "header lies": header_lie,
    "giant sizes": giant,
    "png streams": restreamed,
    "polyglots": polyglot,
    "many scans, remarks": many_scans,
}


def hostile(seed: int, number: int, sound: dict[str, bytes]) -> tuple[str, str, bytes]:
    """Returns the format, the mutation and the bytes of one input."""
    dice = random.Random(f"{seed}:{number}")
    name, mutation = dice.choice(list(sound)), dice.choice(list(MUTATIONS))
    if mutation == "png streams":
        name = "png made"
    data = MUTATIONS[mutation](sound.get(name, b""), dice, list(sound.values()))
    return name.split()[0], mutation, data


# --- the child -------------------------------------------------------------------------------------------------------


def child(noise: Path) -> None:
    """Decodes what comes on standard input, and answers a line of JSON for each on a pipe of its own."""
    from knowngood.data.images import decode
    from knowngood.errors import ImageError

    answers = os.fdopen(os.dup(1), "w")
    written = os.open(noise, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(written, 1)
    os.dup2(written, 2)
    taken = sys.stdin.buffer
    while head := taken.read(4):
        data = taken.read(int.from_bytes(head, "big"))
        before = noise.stat().st_size
        reset_peak()
        pixels, outcome = None, "refused"
        try:
            pixels = decode(data, name="x")
            outcome = "accepted"
        except ImageError as error:
            outcome = "refused" if "cannot be decoded" not in str(error) else "refused by a decoder"
        except BaseException as error:
            outcome = f"foreign: {type(error).__name__}: {error}"[:200]
        sys.stdout.flush()
        answer = {"outcome": outcome, "peak": peak(), "noise": noise.stat().st_size - before}
        if pixels is not None and pixels.size <= 12_000_000:
            answer["other"] = compared(data, pixels, noise)
        del pixels
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def reset_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak() -> int:
    """Returns the most memory that this process held since the last reset, bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return 1024 * int(found[1]) if found else 0


def compared(data: bytes, pixels: Any, noise: Path) -> str:
    """Returns "equal", "differs", "warned", or "not comparable", by another decoder."""
    from knowngood.data.containers import read_header

    header = read_header(data, "x")
    if header.mode not in ("L", "RGB") or header.bits != 8 or header.orientation != 1:
        return "not comparable"
    before = noise.stat().st_size
    try:
        other = by_pillow(data) if header.format in ("PNG", "GIF", "PPM") else by_opencv(data)
    except Exception:
        return "not comparable"
    warnings = noise.read_bytes()[before:].decode("utf-8", "replace").splitlines()
    if any("JFIF revision" not in line for line in warnings):  # that one is of no pixel
        return "warned" if header.format == "JPEG" else "not comparable"
    if other is None or other.shape[:2] != pixels.shape[:2]:
        return "not comparable"
    if other.ndim == 2:
        other = other[..., None]
    ours = pixels[..., None] if pixels.ndim == 2 else pixels
    difference = int(np.abs(ours.astype(np.int16) - other).max())
    lossy = header.format in ("JPEG", "WEBP", "JPEG2000", "TIFF") and difference <= 8
    return "equal" if difference == 0 or lossy else "differs"


def by_pillow(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return np.asarray(image.convert("L" if image.mode in ("L", "1") else "RGB"))


def by_opencv(data: bytes) -> Any:
    import cv2

    made = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if made is None else np.asarray(made)


# --- the parent ------------------------------------------------------------------------------------------------------


class Watched:
    """A child that decodes, watched."""

    def __init__(self, folder: Path) -> None:
        self.noise = folder / "noise"
        self.noise.touch()
        self._begin()

    def _begin(self) -> None:
        command = [sys.executable, __file__, "--child", str(self.noise)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, data: bytes) -> dict[str, Any]:
        """Returns the child's answer, or what became of it; a new one takes its place then."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(struct.pack(">I", len(data)) + data)
            self.process.stdin.flush()
            began = self._busy()
            while not select.select([self.process.stdout], [], [], 0.5)[0]:
                if self.process.poll() is None and self._busy() - began > SECONDS:
                    return self._over("hang")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            return self._over("crash")
        return dict(json.loads(line))

    def _busy(self) -> float:
        """Returns the seconds that the child has computed."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _over(self, why: str) -> dict[str, Any]:
        self.end()
        self._begin()
        return {"outcome": why, "peak": 0, "noise": 0}

    def end(self) -> None:
        """Ends the child."""
        self.process.kill()
        self.process.communicate()


def failures_of(answer: dict[str, Any]) -> list[str]:
    """Returns which of `FAILURES` an answer shows."""
    outcome = answer["outcome"]
    found = [outcome] if outcome in ("crash", "hang") else []
    found += ["foreign"] if outcome.startswith("foreign") else []
    found += ["memory"] if answer["peak"] > MEMORY else []
    found += ["noise"] if answer["noise"] else []
    return found + ([answer["other"]] if answer.get("other") in ("differs", "warned") else [])


def run(count: int, seed: int, out: Path | None = None, keep: Path | None = None) -> dict[str, Any]:
    """Tries inputs 0 to count-1 of a seed, or goes on with them.

    Args:
        count: How many.
        seed: Which.
        out: JSON with the results so far; a run of the same seed goes on.
        keep: Folder for inputs that fail.

    Returns:
        The table: by mutation and by format, how many were tried, accepted, and failed how.
    """
    state: dict[str, Any] = {"seed": seed, "done": 0, "by_mutation": {}, "by_format": {}, "peak": 0, "failed": []}
    if out is not None and out.is_file():
        known = json.loads(out.read_text(encoding="utf-8"))
        state = known if known.get("seed") == seed else state
    sound = corpus()
    began, before = time.perf_counter(), state.get("seconds", 0.0)
    with tempfile.TemporaryDirectory() as folder:
        watched = Watched(Path(folder))
        try:
            for number in range(state["done"], count):
                form, mutation, data = hostile(seed, number, sound)
                answer = watched.ask(data)
                failures = failures_of(answer)
                for table, key in (("by_mutation", mutation), ("by_format", form)):
                    row = Counter(state[table].get(key, {}))
                    row.update(["tried", *(["accepted"] if answer["outcome"] == "accepted" else []), *failures])
                    row.update(["compared equal"] if answer.get("other") == "equal" else [])
                    state[table][key] = dict(row)
                state["peak"] = max(state["peak"], answer["peak"])
                state["done"] = number + 1
                if failures:
                    state["failed"].append([number, form, mutation, failures, answer["outcome"]])
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / f"{number}.{form}").write_bytes(data)
                if out is not None and (number + 1) % PER_SAVE == 0:
                    state["seconds"] = round(before + time.perf_counter() - began, 1)
                    save(state, out)
        finally:
            watched.end()
    state["seconds"] = round(before + time.perf_counter() - began, 1)
    if out is not None:
        save(state, out)
    return state


def save(state: dict[str, Any], out: Path) -> None:
    scratch = out.with_suffix(".part")
    scratch.write_text(json.dumps(state, indent=1), encoding="utf-8")
    scratch.replace(out)


def shown(state: dict[str, Any]) -> str:
    """Returns the table as text."""
    columns = ("tried", "accepted", "compared equal", *FAILURES)
    lines = [f"{'':22s}" + "".join(f"{column:>16s}" for column in columns)]
    for table in ("by_mutation", "by_format"):
        for key, row in sorted(state[table].items()):
            lines.append(f"{key:22s}" + "".join(f"{row.get(column, 0):16,d}" for column in columns))
        lines.append("")
    lines.append(f"{state['done']:,} inputs of seed {state['seed']}; most memory {state['peak'] / 1e6:.0f} MB")
    return "\n".join(lines)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--count", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--keep", type=Path, help="folder for inputs that fail")
    arguments.add_argument("--show", type=int, help="write input number SHOW to --keep and decode it here")
    arguments.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.child is not None:
        child(given.child)
    elif given.show is not None:
        from knowngood.data.images import decode

        form, mutation, data = hostile(given.seed, given.show, corpus())
        print(form, mutation, len(data), data[:64])
        if given.keep is not None:
            (given.keep / f"{given.show}.{form}").write_bytes(data)
        print(decode(data).shape)
    else:
        print(shown(run(given.count, given.seed, given.out, given.keep)))


if __name__ == "__main__":
    main()
