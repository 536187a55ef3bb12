"""`check` finds each kind of trouble, names it, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from knowngood.data.health import check
from knowngood.errors import DataError


def pixels(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def healthy(root: Path) -> Path:
    for kind, count, start in (("good", 40, 0), ("scratch", 25, 100), ("chip", 22, 200)):
        (root / kind).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pixels(start + i)).save(root / kind / f"{i:03}.png")
    return root


def truncate(root: Path) -> None:
    data = (root / "good" / "000.png").read_bytes()
    (root / "good" / "000.png").write_bytes(data[: len(data) // 2])


def conflict(root: Path) -> None:
    (root / "chip" / "copy.png").write_bytes((root / "good" / "000.png").read_bytes())


def masks(root: Path) -> None:
    (root / "masks" / "chip").mkdir(parents=True)
    Image.new("L", (64, 48)).save(root / "masks" / "chip" / "000.png")
    Image.new("L", (10, 10)).save(root / "masks" / "chip" / "001.png")


def into_splits(root: Path) -> None:
    for split in ("train", "test"):
        (root / split).mkdir()
    for kind in ("good", "scratch", "chip"):
        files = sorted((root / kind).iterdir())
        for i, file in enumerate(files):
            target = root / ("test" if i % 4 == 0 else "train") / kind
            target.mkdir(exist_ok=True)
            file.rename(target / file.name)
        (root / kind).rmdir()
    (root / "test" / "good" / "copy.png").write_bytes((root / "train" / "good" / "001.png").read_bytes())


CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "empty": (lambda r: (r / "good" / "e.png").touch(), "empty", "warning"),
    "truncated": (truncate, "truncated", "warning"),
    "text": (lambda r: (r / "good" / "t.png").write_text("text"), "unreadable", "warning"),
    "one pixel": (lambda r: Image.new("L", (1, 1), 3).save(r / "good" / "p.png"), "tiny", "warning"),
    "sizes": (
        lambda r: Image.fromarray(pixels(9, (90, 90))).save(r / "good" / "b.png"),
        "mixed-sizes",
        "info",
    ),
    "palette": (
        lambda r: Image.fromarray(pixels(9)).convert("P").save(r / "good" / "b.png"),
        "odd-modes",
        "info",
    ),
    "colour": (
        lambda r: Image.fromarray(pixels(9, (48, 64, 3))).save(r / "good" / "b.png"),  # type: ignore[arg-type]
        "mixed-colour",
        "warning",
    ),
    "12 bits": (
        lambda r: Image.fromarray(pixels(9).astype(np.uint16) * 16).save(r / "good" / "b.png"),
        "dark-16-bit",
        "warning",
    ),
    "copies": (
        lambda r: (r / "good" / "c.png").write_bytes((r / "good" / "000.png").read_bytes()),
        "exact-duplicates",
        "warning",
    ),
    "conflicting": (conflict, "exact-duplicates-conflicting-labels", "error"),
    "across": (into_splits, "duplicates-across-splits", "error"),
    "masks": (masks, "missing-masks", "info"),
    "mask size": (masks, "mask-size", "warning"),
}


def test_healthy_set_has_nothing_to_say(tmp_path: Path) -> None:
    health = check(healthy(tmp_path))
    assert health.findings == ()
    assert not health.spoils_training


@pytest.mark.parametrize("case", CASES)
def test_trouble_is_found(tmp_path: Path, case: str) -> None:
    spoil, code, severity = CASES[case]
    spoil(healthy(tmp_path))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    health = check(tmp_path)
    found = {finding.code: finding for finding in health.findings}
    assert code in found, found
    assert found[code].severity == severity
    assert found[code].count
    assert found[code].examples
    assert health.spoils_training == (severity == "error")
    assert json.loads(json.dumps(health.to_dict()))["findings"][0]["code"] == health.findings[0].code
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_conflicting_labels_of_near_copies(tmp_path: Path) -> None:
    healthy(tmp_path)
    Image.open(tmp_path / "good" / "000.png").save(tmp_path / "chip" / "again.jpg", quality=95)
    assert "near-duplicates-conflicting-labels" in {f.code for f in check(tmp_path).findings}


def test_classes(tmp_path: Path) -> None:
    for name, good, bad, code, spoils in (
        ("a", 0, 5, "one-class", True),
        ("b", 2, 1, "too-few", True),
        ("c", 30, 5, "few", False),
        ("d", 30, 0, "one-class", False),  # --one-class learns from these
        ("e", 5, 0, "few", False),
        ("f", 2, 0, "few", True),
    ):
        (tmp_path / name / "good").mkdir(parents=True)
        (tmp_path / name / "bad").mkdir()
        for i in range(good):
            Image.fromarray(pixels(i)).save(tmp_path / name / "good" / f"{i}.png")
        for i in range(bad):
            Image.fromarray(pixels(100 + i)).save(tmp_path / name / "bad" / f"{i}.png")
        health = check(tmp_path / name)
        assert code in {f.code for f in health.findings}
        assert health.spoils_training == spoils


def test_lots_on_both_sides_and_missing_files(tmp_path: Path) -> None:
    lines = ["image,label,lot,split"]
    for i in range(60):
        Image.fromarray(pixels(i)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{'good' if i % 2 else 'bad'},{i // 6},{'test' if i < 15 else 'train'}")
    lines.append("gone.png,good,99,train")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    found = {f.code: f for f in check(tmp_path).findings}
    assert found["lots-across-splits"].count == 6
    assert found["missing"].examples == ("gone.png",)


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "t.png").write_text("text")
    assert check(tmp_path).spoils_training


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty folder"):
        check(tmp_path)


def blank(root: Path) -> None:
    for number in range(3):
        dark = (np.random.default_rng(number).random((48, 64)) < 0.002).astype(np.uint8)
        Image.fromarray(dark).save(root / "good" / f"dark{number}.png")


def test_blank_photographs_are_found(tmp_path: Path) -> None:
    blank(healthy(tmp_path))
    (found,) = (f for f in check(tmp_path).findings if f.code == "blank")
    assert (found.severity, found.count) == ("warning", 3)
    assert set(found.examples) == {f"good/dark{n}.png" for n in range(3)}
    assert "black (level 0)" in found.message


def test_right_aligned_depth_is_of_the_set_and_one_dark_picture_says_nothing(tmp_path: Path) -> None:
    healthy(tmp_path)
    for number in range(20):
        Image.fromarray(pixels(number).astype(np.uint16) * 257).save(tmp_path / "good" / f"deep{number}.png")
    Image.fromarray(pixels(9).astype(np.uint16) * 4).save(tmp_path / "good" / "dark.png")
    assert "dark-16-bit" not in {f.code for f in check(tmp_path).findings}
    for number in range(20):
        Image.fromarray(pixels(number).astype(np.uint16) * 4).save(tmp_path / "good" / f"deep{number}.png")
    (found,) = (f for f in check(tmp_path).findings if f.code == "dark-16-bit")
    assert found.count == 21
    assert "10 bits" in found.message
    assert "multiplied by 64" in found.message


def test_damaged_files_and_odd_masks_have_their_reasons(tmp_path: Path) -> None:
    healthy(tmp_path)
    data = bytearray((tmp_path / "good" / "003.png").read_bytes())
    data[data.index(b"IDAT") + 40] ^= 1
    (tmp_path / "good" / "003.png").write_bytes(data)
    (tmp_path / "masks" / "chip").mkdir(parents=True)
    truth = np.zeros((48, 64), np.uint8)
    truth[10:20, 10:20] = 255
    for number, mask in enumerate((truth, truth // 255, truth * 0, 255 - truth // 16, truth[:40])):
        Image.fromarray(mask).save(tmp_path / "masks" / "chip" / f"{number:03}.png")
    found = {f.code: f for f in check(tmp_path).findings}
    assert found["damaged"].examples == ("good/003.png",)
    assert found["empty-masks"].examples == ("chip/002.png",)
    assert found["full-masks"].examples == ("chip/003.png",)
    assert found["mask-size"].examples == ("chip/004.png",)
    assert "64 x 40 pixels, its photograph 64 x 48" in found["mask-size"].message


def test_guesses_and_missed_files_are_findings(tmp_path):
    for name in ("ok_front/1.png", "cut/2.png", "loose.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (40, 40), 9).save(tmp_path / name)
    (tmp_path / "cut" / "3.raw").write_bytes(bytes(range(256)))
    (tmp_path / "cut" / "notes.txt").write_text("hello")
    found = {(f.code, f.severity): (f.count, f.examples) for f in check(tmp_path).findings if "guess" in f.code}
    assert found == {("guessed-labels", "info"): (1, ("ok_front",))}
    over = [(f.severity, f.examples) for f in check(tmp_path).findings if f.code == "passed-over"]
    assert sorted(over) == [("warning", ("cut/3.raw",)), ("warning", ("loose.png",))]
