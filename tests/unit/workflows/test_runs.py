"""A run's folder: what is begun anew, gone on with, returned, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from knowngood.errors import ConfigError
from knowngood.training.config import TrainConfig
from knowngood.workflows.runs import CONFIG, FIGURES, call_of, open_run

FIRST, OTHER = TrainConfig(), TrainConfig(seed=1)


def test_begun_gone_on_with_and_finished(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    assert open_run(run, FIRST, "data", False) is False
    (run / "work").mkdir()
    (run / ".recipe.12ab.tmp").mkdir()
    (run / ".scores.parquet.12ab.tmp").touch()
    assert open_run(run, FIRST, "data", False) is False
    assert sorted(p.name for p in run.iterdir()) == [CONFIG, "work"]
    (run / FIGURES).write_text("{}")
    assert open_run(run, FIRST, "data", False) is True
    assert not (run / "work").exists()  # left by a kill that came after the last file


@pytest.mark.parametrize("result", [FIGURES, "recipe/recipe.json", "work/last.ckpt"])
def test_results_are_never_replaced_without_being_asked(tmp_path: Path, result: str) -> None:
    open_run(tmp_path, FIRST, "data", False)
    (tmp_path / result).parent.mkdir(exist_ok=True)
    (tmp_path / result).write_text("hours of work")
    with pytest.raises(ConfigError, match=r"other options \(seed\)"):
        open_run(tmp_path, OTHER, "data", False)
    with pytest.raises(ConfigError, match="other images or labels"):
        open_run(tmp_path, FIRST, "other data", False)
    assert (tmp_path / result).read_text() == "hours of work"
    assert open_run(tmp_path, OTHER, "data", True) is False
    assert [p.name for p in tmp_path.iterdir()] == [CONFIG]


def test_a_start_without_results_gives_way(tmp_path: Path) -> None:
    open_run(tmp_path, FIRST, "data", False)
    (tmp_path / "work" / "pixels").mkdir(parents=True)
    assert open_run(tmp_path, OTHER, "data", False) is False
    assert open_run(tmp_path, OTHER, "data", False) is False
    assert not (tmp_path / "work" / "pixels").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"config": {}}'])
def test_a_strange_config_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(ConfigError, match="not written by knowngood"):
        open_run(tmp_path, FIRST, "data", False)
    assert (tmp_path / CONFIG).read_text() == text


def test_a_run_of_version_0_1_is_known_by_its_old_names(tmp_path: Path) -> None:
    config = TrainConfig(coreset_size=500, one_class=True)
    open_run(tmp_path, config, "data", False)
    written = json.loads((tmp_path / CONFIG).read_text())
    old = {"coreset_size": "memory", "cam_history": "watch"}
    written["config"] = {old.get(name, name): value for name, value in written["config"].items()}
    (tmp_path / CONFIG).write_text(json.dumps(written))
    (tmp_path / FIGURES).write_text("{}")
    assert open_run(tmp_path, config, "data", False) is True
    with pytest.raises(ConfigError, match=r"other options \(coreset_size\)"):
        open_run(tmp_path, TrainConfig(coreset_size=600, one_class=True), "data", False)


def test_what_repeats_a_run_is_kept_beside_what_decides_it(tmp_path: Path) -> None:
    call = call_of("photos", None, ("ok",), (), model="resnet18")
    open_run(tmp_path, FIRST, "data", False, call=call)
    kept = json.loads((tmp_path / CONFIG).read_text())
    assert kept["config"]["model"] is None
    assert (kept["repeat"]["model"], kept["repeat"]["good"], kept["repeat"]["data"]) == ("resnet18", ["ok"], "photos")
    assert kept["repeat"]["seed"] == 0
    (tmp_path / FIGURES).write_text("{}")
    assert open_run(tmp_path, FIRST, "data", False) is True
