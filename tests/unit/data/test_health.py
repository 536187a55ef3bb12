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


def oppose(root: Path) -> None:
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
    "opposing": (oppose, "exact-duplicates-opposing-labels", "error"),
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


def test_opposing_labels_of_near_copies(tmp_path: Path) -> None:
    healthy(tmp_path)
    Image.open(tmp_path / "good" / "000.png").save(tmp_path / "chip" / "again.jpg", quality=95)
    assert "near-duplicates-opposing-labels" in {f.code for f in check(tmp_path).findings}


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
