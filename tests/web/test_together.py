"""What shows many photographs together: neighbours beside the queue, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knowngood.review.serving import take_over_run


@pytest.fixture
def filled(serve_live: Callable[..., Any], trained_run: Path) -> Any:
    """A station with the images of a run, looked over."""
    live = serve_live()
    take_over_run(live.station, trained_run)
    live.overview.look()
    return live


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_the_nearest_known_good_and_bad_stand_beside_the_image(
    filled: Any, fill: Callable[..., list[int]], window: Callable[..., Any], parts: Path, width: int, scheme: str
) -> None:
    fill(filled.station, parts, 5)
    at = window(filled.url, width=width, scheme=scheme)
    at.queue()
    for word, label in (("good", 0), ("bad", 1)):
        at.page.wait_for_selector(f"#{word}-view img")
        place = at.page.get_attribute(f"#{word}-view img", "src")
        row = filled.station.record.inspections.one(int(place.split("/")[2]))
        labels = filled.station.record.inspections.labels_of(row["sha256"])
        assert {one["label"] for one in labels} == {label}
        assert row["unit"] != at.unit()
        box = at.page.locator(f"#{word}-view img").bounding_box()
        assert box["width"] > 60
        assert box["x"] + box["width"] <= width
    assert at.page.evaluate("document.documentElement.scrollWidth") <= width
    at.press("+")  # all are looked at alike
    zoomed = "[...document.querySelectorAll('.view img')].map((image) => image.style.transform)"
    assert len(set(at.page.evaluate(zoomed))) == 1
    before = at.unit()
    at.press("g")
    at.settle()
    assert at.unit() != before
    at.page.wait_for_selector("#good-view img")


def test_without_labels_the_panel_says_why_it_is_empty(
    serve_live: Callable[..., Any], fill: Callable[..., list[int]], window: Callable[..., Any], parts: Path
) -> None:
    live = serve_live()
    fill(live.station, parts, 3)
    live.overview.look()
    at = window(live.url)
    at.queue()
    at.page.wait_for_selector("#near-why:not([hidden])")
    assert "--data" in str(at.page.text_content("#near-why"))
    assert not at.page.is_visible("#good-view")


def test_the_tools_are_never_under_the_answers(
    filled: Any, fill: Callable[..., list[int]], window: Callable[..., Any], parts: Path
) -> None:
    fill(filled.station, parts, 5)
    at = window(filled.url, width=390)
    at.queue()
    at.page.wait_for_selector("#good-view img")
    answers = at.page.locator(".answers").bounding_box()
    for name in ("zoom", "light", "reset"):
        box = at.page.locator(f"#{name}").bounding_box()
        assert box["y"] + box["height"] <= answers["y"], name
