"""What shows many photographs together, in a real browser: neighbours beside the queue, the map, copies, lots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowngood.review.neighbours import Known
from knowngood.review.overview import View
from knowngood.review.serving import inspect_data, take_over_run
from knowngood.review.station import Job


@pytest.fixture
def filled(serve_live: Callable[..., Any], trained_run: Path) -> Any:
    """A station with the images of a run, looked over."""
    live = serve_live()
    take_over_run(live.station, trained_run)
    live.overview.update()
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
    live.overview.update()
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


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_map_shows_the_picture_of_a_mark_and_its_unit_by_pointer_and_by_keyboard(
    filled: Any, window: Callable[..., Any], width: int, scheme: str
) -> None:
    at = window(filled.url, width=width, scheme=scheme)
    at.page.goto("/data/map")
    at.page.wait_for_selector("body[data-loaded]")
    rows = filled.overview.view.known.rows
    assert at.page.evaluate("document.body.dataset.loaded") == str(len(rows))
    assert at.page.text_content("#goods") == str(sum(row["label"] == 0 for row in rows))
    assert at.page.evaluate("document.documentElement.scrollWidth") <= width
    at.page.select_option("#which", "1")
    assert at.page.text_content("#goods") == "0"
    at.page.locator("#defect").focus()
    at.press("Tab")
    seen = {at.page.evaluate("document.body.dataset.here")}
    for key in ("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown"):
        at.press(key)
        seen.add(at.page.evaluate("document.body.dataset.here"))
    assert len(seen) > 1
    by_id = {str(row["id"]): row for row in rows}
    assert all(by_id[one]["label"] == 1 for one in seen)
    at.page.wait_for_selector("#picture[src]")
    here = by_id[at.page.evaluate("document.body.dataset.here")]
    assert here["image"] in str(at.page.text_content("#here"))
    at.press("Enter")
    at.page.wait_for_url("**/units/story**")
    assert at.page.text_content("h1") == here["unit"]


def test_every_mark_of_a_large_map_can_be_pointed_at(filled: Any, window: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"id": n + 1, "label": n % 10 == 0, "defect": "chip" if n % 10 == 0 else None, "image": f"{n}.png"}
        | {"unit": f"u{n}", "sha256": str(n), "generated": 0}
        for n in range(10_000)
    ]
    filled.overview.stop()  # the view below stays
    filled.overview.view = View(Known(rows, rng.normal(size=(10_000, 8)).astype(np.float32)), len(rows))
    at = window(filled.url)
    at.page.goto("/data/map")
    at.page.wait_for_selector("body[data-loaded='10000']")
    box = at.page.locator("#map").bounding_box()
    spots = at.page.evaluate("[17, 4321, 9990].map((n) => [data.id[n], ...places[n]])")
    for number, x, y in spots:
        at.page.mouse.move(box["x"] + x, box["y"] + y)
        here = int(at.page.evaluate("document.body.dataset.here"))
        again = at.page.evaluate("n => places[data.id.indexOf(n)]", here)
        assert here == number or np.hypot(again[0] - x, again[1] - y) < 2  # another one lies there as well


def test_copies_are_listed_those_with_different_labels_first(
    serve_live: Callable[..., Any], window: Callable[..., Any], parts: Path, tmp_path: Path
) -> None:
    live = serve_live()
    folder = tmp_path / "set"
    sources = sorted((parts / "good").iterdir())[:4]
    for name, source in (("good/a", 0), ("good/b", 1), ("chip/a", 0), ("good/c", 2), ("good/d", 2), ("chip/e", 3)):
        place = folder / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(sources[source].read_bytes())
    inspect_data(live.station, folder)
    live.overview.update()
    at = window(live.url, width=390)
    at.page.goto("/data/copies")
    groups = at.page.locator(".groups > li")
    assert groups.count() == 2
    assert "different labels" in str(groups.nth(0).text_content())
    assert {"good/a.png", "chip/a.png"} == set(groups.nth(0).locator(".file").all_text_contents())
    assert "different labels" not in str(groups.nth(1).text_content())
    assert at.page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(("names", "width"), [("r{0}c{1}", 1280), ("part_{0}{1}", 390)])
def test_a_lot_is_walked_with_the_arrow_keys(
    serve_live: Callable[..., Any], window: Callable[..., Any], parts: Path, names: str, width: int
) -> None:
    live = serve_live()
    data = next((parts / "good").iterdir()).read_bytes()
    broken = b"no photograph"
    jobs = [Job(data, "x.png", names.format(row, column), "L <1>") for row in (1, 2) for column in (1, 2, 4)]
    live.station.inspect([*jobs, Job(broken, "x.png", names.format(3, 1), "L <1>")])
    at = window(live.url, width=width)
    at.page.goto("/lots/map?lot=L%20%3C1%3E")
    assert at.page.text_content("h1") == "Lot L <1>"
    assert at.page.locator(".tray a").count() == 7
    assert at.page.locator(".tray a.unread").text_content() == "–"
    assert at.page.evaluate("document.documentElement.scrollWidth") <= width
    at.page.locator(".tray a").first.focus()
    where = "document.activeElement.getAttribute('aria-label').split(':')[0]"
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home", "ArrowDown"):
        at.press(key)
        seen.append(at.page.evaluate(where))
    flat = [names.format(*place) for place in ((1, 1), (1, 2), (1, 4), (2, 1), (3, 1))]
    if width == 1280:  # over the empty place, and not beyond the line
        assert seen == [flat[1], flat[2], flat[2], flat[1], flat[4], flat[0], flat[3]]
    else:
        assert seen == [flat[1], flat[2], flat[3], flat[2], flat[4], flat[0], flat[0]]
    assert at.page.locator(".tray a[tabindex='0']").count() == 1
    at.press("Enter")
    at.page.wait_for_url("**/units/story**")


def test_lots_that_look_strange_to_the_network_alarm_on_the_page(
    filled: Any, window: Callable[..., Any], photograph: Callable[..., Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    station = filled.station
    for lot in range(12):
        jobs = []
        for number in range(6):
            place = tmp_path / f"{lot}_{number}.png"
            image = photograph(rng, False)
            (image.rotate(45) if lot == 11 else image).save(place)
            jobs.append(Job(place.read_bytes(), place.name, lot=f"A{lot:02}", machine=f"M{lot % 2}"))
        station.inspect(jobs)
    filled.overview.update()
    at = window(filled.url)
    at.page.goto("/lots")
    assert "features: mean of each lot" in str(at.page.text_content("main"))
    row = at.page.locator("table tbody tr", has_text="A11")
    assert "features" in str(row.text_content())
    assert "features" not in str(at.page.locator("table tbody tr", has_text="A04").text_content())
    at.page.click("text=by machine")
    at.page.wait_for_url("**by=machine")
