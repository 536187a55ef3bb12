"""People at work, in a real browser: what they press is what the record says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_an_operator_clears_fifty_images_by_keyboard(
    serve_live: Callable[..., Any], fill: Callable[..., list[int]], window: Callable[..., Any], parts: Path
) -> None:
    live = serve_live()
    numbers = fill(live.station, parts, 60)
    live.station.record.labels.take_over("set", [defect("chip"), defect("scratch")])
    at = window(live.url)
    at.queue()
    keys = ["g", "b", "1", "2", "c", "d", "g", "g", "1", "s"]
    said = {"g": ("good", None), "b": ("bad", None), "c": ("unsure", None), "d": ("drop", None)}
    said |= {"1": ("bad", "chip"), "2": ("bad", "scratch")}
    wanted = []
    for place in range(55):
        key = keys[place % len(keys)]
        assert at.unit() == f"part_{place:03}"
        at.press(key)
        if key != "s":
            wanted.append((numbers[place], *said[key]))
        at.page.wait_for_function(
            "place => document.getElementById('unit').textContent === place", arg=f"part_{place + 1:03}"
        )
    assert len(wanted) == 50
    at.press("u")
    at.settle()
    assert at.unit() == "part_054"
    at.press("g")
    at.settle()
    at.page.goto("/units")
    while held(live.station):
        at.page.wait_for_timeout(50)
    at.queue()
    assert at.unit() == "part_055"
    rows = live.station.record.verdicts.everything()
    undone = rows[-2]
    assert (undone["verdict"], undone["undoes"]) == ("undo", rows[-3]["id"])
    assert [(r["inspection_id"], r["verdict"], r["defect"]) for r in rows[:-2]] == wanted
    assert (rows[-1]["inspection_id"], rows[-1]["verdict"]) == (numbers[54], "good")
    standing = {(r["inspection_id"], r["verdict"], r["defect"]) for r in live.station.record.verdicts.standing()}
    assert standing == {*wanted[:-1], (numbers[54], "good", None)}
    assert {row["who"] for row in rows} == {"ann"}
    assert all(row["region"] is None or len(row["region"]) == 4 for row in rows)
    assert live.station.record.queue.counts()["waiting"] == 10
    assert at.page.text_content("#today") == "50"


def defect(name: str) -> dict[str, Any]:
    return {"image": name, "sha256": name, "label": 1, "defect": name, "split": "train", "generated": 0}


def test_two_operators_at_once_never_see_the_same_image(
    serve_live: Callable[..., Any], fill: Callable[..., list[int]], window: Callable[..., Any], parts: Path
) -> None:
    live = serve_live(open=False)
    fill(live.station, parts, 48)
    windows = {}
    for name in ("ann", "bob"):
        windows[name] = window(live.url)
        windows[name].sign_in(live.station.record.people.add(name, "operator"))
        windows[name].queue()
    seen: dict[str, list[str]] = {"ann": [], "bob": []}
    for turn in range(16):
        for name, at in windows.items():
            if turn % 4 == 3 and name == "bob":
                continue
            at.page.wait_for_function(
                "before => document.getElementById('unit').textContent !== before", arg=(seen[name] or [""])[-1]
            )
            seen[name].append(at.unit())
            at.press("g" if name == "ann" else "b")
            at.settle()
        if sum(map(len, seen.values())) >= 18:
            break
    assert not set(seen["ann"]) & set(seen["bob"])
    rows = live.station.record.verdicts.standing()
    assert {(r["unit"], r["who"]) for r in rows} == {(unit, name) for name, units in seen.items() for unit in units}
    assert all(r["verdict"] == ("good" if r["who"] == "ann" else "bad") for r in rows)
    windows["ann"].page.goto("/units")  # the queue's window is closed: its images come back at once
    windows["bob"].page.wait_for_timeout(300)
    holders = {row["inspection_id"] for row in held(live.station)}
    assert len(holders) <= 8


def test_what_an_earlier_showing_gives_back_late_stays_with_the_later_one(
    serve_live: Callable[..., Any], fill: Callable[..., list[int]], window: Callable[..., Any], parts: Path
) -> None:
    live = serve_live()
    fill(live.station, parts, 20)
    at = window(live.url)
    at.queue()
    before = at.page.evaluate("tab")
    at.page.reload()
    at.page.wait_for_selector("#item:not([hidden])")
    mine = held(live.station)
    at.page.evaluate("tab => fetch('/queue/release', {method: 'POST', body: new URLSearchParams({tab, csrf})})", before)
    assert held(live.station) == mine != []


def held(station: Any) -> list[dict[str, Any]]:
    with station.record.database.reading() as connection:
        found = connection.exec_driver_sql("SELECT inspection_id FROM queue WHERE holder IS NOT NULL").mappings()
        return [dict(row) for row in found]


def test_a_threshold_is_moved_and_saved(
    serve_live: Callable[..., Any], window: Callable[..., Any], parts: Path, trained_run: Path
) -> None:
    from knowngood.review.serving import take_over_run

    live = serve_live()
    assert take_over_run(live.station, trained_run) > 0
    assert take_over_run(live.station, trained_run) == 0
    at = window(live.url)
    at.page.goto("/threshold")
    at.page.wait_for_selector("body[data-loaded]")
    bads = live.station.record.labels.scored(live.station.scoring)
    bads = [row for row in bads if row["label"] == 1 and row["split"] == "calibration"]
    cut = sorted(row["defect_score"] for row in bads)[2] + 1e-9
    at.page.fill("#low-number", str(cut))
    at.page.dispatch_event("#low-number", "change")
    escapes = sum(row["defect_score"] < cut for row in bads)
    assert at.page.text_content("#escapes") == f"{escapes} of {len(bads)}"
    at.page.click("[data-cell='1-accept']")
    at.page.wait_for_selector("#behind .picture")
    assert at.page.locator("#behind .picture").count() == escapes
    at.page.keyboard.press("Tab")
    at.page.fill("[name=why]", "a trial <b>run</b>")
    at.page.click("text=Save as a new revision")
    at.page.wait_for_url("**/recipes")
    assert live.station.revision["accept_below"] != pytest.approx(cut)
    assert "a trial <b>run</b>" in str(at.page.text_content("table"))
    assert "Revision 2 waits for a sign-off" in str(at.page.text_content("main"))
    at.page.evaluate("document.querySelector('[name=split]').append(new Option('none', 'none'))")
    at.page.select_option("[name=split]", "none")
    at.page.click("button:text('Compare')")  # a refusal is told where the answer would be
    at.page.wait_for_selector("#told [role=alert]")
    at.page.select_option("[name=split]", "test")
    at.page.click("button:text('Compare')")
    at.page.wait_for_selector("#told table")
    at.page.click("#told >> text=Approve revision")
    at.page.wait_for_selector("text=approved by ann")
    assert live.station.record.revisions.everything()[0]["signoffs"][0]["agrees"] == 1
    revision = live.station.revision
    assert revision["accept_below"] == pytest.approx(cut)
    assert (revision["who"], revision["why"]) == ("ann", "a trial <b>run</b>")
    assert "Revision 2 is served and approved" in str(at.page.text_content("main"))


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_no_page_is_wider_than_its_window(
    serve_live: Callable[..., Any],
    fill: Callable[..., list[int]],
    window: Callable[..., Any],
    parts: Path,
    trained_run: Path,
    width: int,
    scheme: str,
) -> None:
    from knowngood.review.serving import take_over_run

    live = serve_live()
    take_over_run(live.station, trained_run)
    fill(live.station, parts, 8)
    at = window(live.url, width=width, scheme=scheme)
    for path in (
        "queue",
        "threshold",
        "units",
        "units/story?unit=part_001",
        "lots",
        "data",
        "recipes",
        "api",
        "sign-in",
    ):
        at.page.goto(f"/{path}")
        at.page.wait_for_load_state("networkidle")
        assert at.page.evaluate("document.documentElement.scrollWidth") <= width, path
    at.queue()
    for name in ("good", "bad"):  # within reach of a thumb
        box = at.page.locator(f"button.{name}").first.bounding_box()
        assert box["y"] + box["height"] <= 800
        assert box["height"] >= 40


def test_verdicts_wait_for_a_station_that_does_not_answer(
    serve_live: Callable[..., Any], fill: Callable[..., list[int]], window: Callable[..., Any], parts: Path
) -> None:
    live = serve_live()
    numbers = fill(live.station, parts, 6)
    at = window(live.url)
    at.queue()
    at.page.wait_for_timeout(300)
    at.context.set_offline(True)
    at.press("g")
    at.page.wait_for_selector("#message:not([hidden])")
    assert live.station.record.verdicts.everything() == []
    at.context.set_offline(False)
    at.settle()
    assert [row["inspection_id"] for row in live.station.record.verdicts.everything()] == numbers[:1]
