"""Units: found where the evidence is strong, told where it is weak, and taken from the user where they are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from knowngood.data.health import check
from knowngood.data.loading import load
from knowngood.data.records import Records
from knowngood.data.splits import split
from knowngood.data.units import groups_of, with_units
from knowngood.errors import ConfigError, DataError


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(".png", image)
    assert ok
    path.write_bytes(data.tobytes())


@pytest.fixture
def exposures(textured: Callable[[int], np.ndarray], seen: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Parts with a texture of their own, each photographed several times, moved and lit otherwise."""

    def make(root: Path, name: str = "{part:03}_exp{shot}.png", parts: int = 30, shots: int = 3) -> Path:
        for number in range(parts):
            for shot in range(shots):
                kind, any_ = "good" if number % 3 else "chip", (7919 * (10 * number + shot)) % 10007
                picture = seen(textured(number), 10 * number + shot, shift=shot, gain=0.7 + 0.3 * shot)
                write(root / kind / name.format(part=number, shot=shot, any=any_), picture)
        return root

    return make


@pytest.fixture
def views(tmp_path: Path, textured: Callable[[int], np.ndarray], seen: Callable[..., np.ndarray]) -> Path:
    """Two cameras look at different sides of each part."""
    for number in range(20):
        for camera in (1, 2):
            picture = seen(textured(1000 * camera + number), number)
            write(tmp_path / ("good" if number % 3 else "chip") / f"part_{number:03}_cam{camera}.png", picture)
    return tmp_path


def of_parts(records: Records) -> list[set[str]]:
    rows = records.frame.group_by("unit").agg("image")
    return sorted((set(names) for _, names in rows.iter_rows()), key=min)


@pytest.mark.parametrize("name", ["{part:03}_exp{shot}.png", "{any:05}.png"])
def test_exposures_of_one_part_are_found_with_and_without_names(
    tmp_path: Path, exposures: Callable[..., Path], name: str
) -> None:
    records = with_units(load(exposures(tmp_path, name)))
    assert records.repeated is not None
    assert (records.repeated.status, records.repeated.units, records.repeated.images) == ("found", 30, 90)
    assert all(len(names) == 3 for names in of_parts(records))
    divided = split(records)
    assert divided.frame.group_by("unit").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 30
    assert "90 photographs show 30 parts" in " ".join(records.notes)
    assert with_units(records).frame.equals(records.frame)


def test_neither_order_nor_labels_change_a_unit(tmp_path: Path, exposures: Callable[..., Path]) -> None:
    records = load(exposures(tmp_path))
    other = records.with_frame(records.frame.sort("image", descending=True).with_columns(label=1 - pl.col("label")))
    one, two = (dict(with_units(r).frame.select("image", "unit").iter_rows()) for r in (records, other))
    assert one == two


def test_look_alikes_with_running_numbers_are_all_units_of_their_own(
    tmp_path: Path, textured: Callable[[int], np.ndarray], seen: Callable[..., np.ndarray]
) -> None:
    for number in range(60):
        kind = "good" if number % 3 else "chip"
        write(tmp_path / kind / f"lot{number // 6}_{number % 6}.png", seen(textured(number), number))
    records = with_units(load(tmp_path))
    assert records.repeated is not None
    assert records.repeated.status == "none"
    assert records.frame["unit"].n_unique() == 60


def test_views_that_pixels_do_not_confirm_are_suspected_with_the_option_that_helps(views: Path) -> None:
    records = with_units(load(views))
    assert records.repeated is not None
    assert (records.repeated.status, records.repeated.suspected_images) == ("suspected", 40)
    flag = records.repeated.flag
    assert flag.startswith("--unit-from '")
    given = with_units(load(views, unit_from=flag.removeprefix("--unit-from '").removesuffix("'")))
    assert all(len(names) == 2 for names in of_parts(given))
    finding = {f.code: f for f in check(views).findings}["repeated-parts-suspected"]
    assert finding.severity == "warning"
    assert flag in finding.message


def test_units_that_are_given(views: Path) -> None:
    for regex, unit in ((r"(part_\d+)_", "part_000"), (r"(p)art_(?P<unit>\d+)", "000")):
        records = with_units(load(views, unit_from=regex))
        assert records.repeated is not None
        assert (records.repeated.status, records.repeated.units) == ("given", 20)
        assert records.frame.filter(pl.col("image") == "chip/part_000_cam1.png")["unit"].item() == unit
        assert len(set(groups_of(records))) == 20
    off = with_units(load(views, unit_from="none"), "none")
    assert off.repeated is not None
    assert off.repeated.status == "off"
    assert len(set(groups_of(off))) == 40


def test_columns_of_a_manifest(views: Path) -> None:
    records = load(views)
    names = records.frame["image"].to_list()
    serial = [name[-12:-9] for name in names]
    table = pl.DataFrame({"image": names, "label": records.frame["label"], "Serial No": serial, "unit": serial})
    table.write_csv(views / "manifest.csv")
    for given in (load(views / "manifest.csv"), load(views / "manifest.csv", unit_from="serial no")):
        found = with_units(given)
        assert found.frame["unit"].to_list() == serial
        assert found.repeated is not None
        assert (found.repeated.status, found.repeated.units) == ("given", 20)


@pytest.mark.parametrize(
    ("unit_from", "error", "words"),
    [
        ("(part_", ConfigError, "is no regex"),
        ("serial", DataError, "says nothing of any image"),
        ("(part)", DataError, "calls all 40 images 'part'"),
    ],
)
def test_a_unit_from_that_is_of_no_use(views: Path, unit_from: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load(views, unit_from=unit_from)


def test_lots_are_left_as_they_are_and_units_join_them(tmp_path: Path, exposures: Callable[..., Path]) -> None:
    records = load(exposures(tmp_path, parts=6))
    lots = [f"L{number % 4}" for number in range(len(records))]
    with_lots = records.with_frame(records.frame.with_columns(lot=pl.Series(lots)))
    assert len(set(groups_of(with_lots))) == 4
    joined = with_lots.frame.with_columns(unit=pl.Series(["A" if lot in ("L0", "L1") else lot for lot in lots]))
    assert len(set(groups_of(records.with_frame(joined)))) == 3
