"""What a network is trained towards: kinds that are frequent enough, masks that fit their photographs."""

from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from knowngood.data.preprocessing import Preprocessing
from knowngood.data.records import SCHEMA, Records
from knowngood.progress import reporting_to
from knowngood.training.targets import NO_KIND, kind_numbers, kinds_of, masks_of


class Heard:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def records(rows: list[dict[str, object]]) -> Records:
    usual = dict.fromkeys(SCHEMA) | {"generated": False, "height": 40, "width": 60}
    filled = [usual | {"image": f"{number}.png", "path": f"/{number}.png"} | row for number, row in enumerate(rows)]
    return Records(pl.DataFrame(filled, schema=SCHEMA), root=Path("."), source="folder")


def bads(names: list[str | None]) -> list[dict[str, object]]:
    return [{"label": 1, "defect": name} for name in names]


def test_kinds_are_those_with_five_training_photographs_the_most_frequent_first() -> None:
    table = records([*bads(["crack"] * 5 + ["stain"] * 7 + ["rare"] * 4 + [None]), {"label": 0}])
    everything = np.arange(len(table))
    assert kinds_of(table, everything) == ("stain", "crack")
    assert kinds_of(table, everything[1:]) == ("bad",)  # four cracks are left: one kind alone is no kind
    numbers = kind_numbers(table, ("stain", "crack"))
    assert numbers.tolist() == [1] * 5 + [0] * 7 + [NO_KIND] * 6


def test_a_defect_type_with_one_photograph_is_bad_and_no_kind() -> None:
    table = records([*bads(["crack"]), {"label": 0}])
    assert kinds_of(table, np.arange(2)) == ("bad",)


@pytest.fixture
def masks(tmp_path: Path) -> dict[str, str]:
    spot = np.zeros((40, 60), np.uint8)
    spot[10:12, 20:24] = 1  # a mask of 0 and 1
    made = {"spot": spot, "large": np.full((80, 120), 255, np.uint8), "empty": np.zeros((40, 60), np.uint8)}
    for name, pixels in made.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    return {name: str(tmp_path / f"{name}.png") for name in (*made, "gone")}


def test_what_cannot_be_used_is_left_out_and_named(masks: dict[str, str]) -> None:
    rows = [{"label": 1, "mask": masks[name]} for name in ("spot", "large", "gone", "empty")]
    table = records([*rows, {"label": 0, "mask": masks["spot"]}, {"label": 1}])
    heard = Heard()
    with reporting_to(heard):  # type: ignore[arg-type]
        found = masks_of(table, np.arange(len(table)), 20, 30, Preprocessing())
    assert list(found) == [0]
    assert (found[0].shape, found[0].sum()) == ((20, 30), 2)
    assert np.argwhere(found[0])[:, 0].tolist() == [5, 5]
    assert len(heard.lines) == 2
    assert "large.png" in heard.lines[0]
    assert heard.lines[0].startswith("2 masks")
    assert heard.lines[1].startswith("1 good image with a mask")


def test_boxes_stand_in_for_masks_and_a_small_defect_keeps_a_pixel() -> None:
    table = records([{"label": 1, "box": [[-3.0, 38.6, 1.0, 99.0]]}])
    found = masks_of(table, np.arange(1), 4, 6, Preprocessing())
    assert np.argwhere(found[0]).tolist() == [[3, 0]]


def test_nothing_outside_the_region_of_interest_is_a_defect(masks: dict[str, str]) -> None:
    table = records([{"label": 1, "mask": masks["spot"]}])
    assert not masks_of(table, np.arange(1), 20, 30, Preprocessing(roi=((0.5, 0.5, 1.0, 1.0),)))
    assert masks_of(table, np.arange(1), 20, 30, Preprocessing(roi=((0.0, 0.0, 0.6, 0.6),)))
