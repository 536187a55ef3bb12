"""knowngood train --cam-history: Grad-CAMs from before training to its last epoch, whole after a kill too."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from knowngood.cam.history import read_cam_history
from knowngood.progress import Silent, reporting_to
from knowngood.workflows.train import train

Run = Callable[..., Any]
OPTIONS: dict[str, Any] = {
    "model": "efficientnet_lite0",
    "image_size": 64,
    "preset": "standard",
    "epochs": 2,
    "batch_size": 16,
    "precision": "fp32",
    "learning_rate": 1e-3,
}


class Stopper(Silent):
    """Presses Ctrl-C when the second epoch begins."""

    def start(self, title: str, total: int | None) -> int:
        if title.startswith("epoch 2/"):
            raise KeyboardInterrupt
        return 0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, parts: Path) -> Path:
    folder = tmp_path_factory.mktemp("watched")
    for number in range(2):
        shutil.copy(parts / "chip" / f"chip_00{number}.png", folder)
    (folder / "broken.png").write_bytes(b"nonsense")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, parts: Path, watched: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(parts, folder, cam_history=watched, **OPTIONS)
    return folder


def test_every_epoch_and_every_stage_is_kept(run: Path) -> None:
    frames = read_cam_history(run / "cam_history")
    assert [frame.epoch for frame in frames] == [0, 1, 2]
    assert {len(frame.maps) for frame in frames} == {4}
    last = [frame.maps["bn2"] if "bn2" in frame.maps else list(frame.maps.values())[-1] for frame in frames]
    assert all(one.shape == last[0].shape and one.shape[0] == 2 for one in last)
    assert not np.array_equal(frames[0].raw_scores, frames[1].raw_scores)
    assert all((heat >= 0).all() and np.isfinite(heat).all() for frame in frames for heat in frame.maps.values())


def test_it_is_made_into_pictures_and_shown(run: Path) -> None:
    epochs, stages = (Image.open(run / "cam_history" / name) for name in ("epochs.png", "stages.png"))
    assert epochs.size[0] >= 4 * 112
    assert stages.size[1] > epochs.size[1]
    assert Image.open(run / "cam_history" / "epochs.gif").n_frames == 3  # type: ignore[attr-defined]
    page = (run / "report.html").read_text()
    assert "CAM history" in page
    assert "data:image/gif" in page


def test_a_stopped_training_goes_on_with_its_history(run: Path, parts: Path, watched: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with reporting_to(Stopper()), pytest.raises(KeyboardInterrupt):
        train(parts, folder, cam_history=watched, **OPTIONS)
    assert [frame.epoch for frame in read_cam_history(folder / "cam_history")] == [0, 1]
    train(parts, folder, cam_history=watched, **OPTIONS)
    for ours, theirs in zip(
        read_cam_history(folder / "cam_history"), read_cam_history(run / "cam_history"), strict=True
    ):
        np.testing.assert_allclose(ours.raw_scores, theirs.raw_scores, atol=1e-3)


def test_watching_changes_nothing_of_the_training(run: Path, parts: Path, tmp_path: Path) -> None:
    plain = train(parts, tmp_path / "run", **OPTIONS)
    frames = read_cam_history(run / "cam_history")
    import json

    history = json.loads((run / "metrics.json").read_text())["history"]
    assert len(frames) == len(history)
    for ours, theirs in zip(history, plain.metrics["history"], strict=True):
        assert ours["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--cam-history", "{watched}"], "--preset standard"),
        (["--cam-history", "nowhere", "--preset", "standard"], "There is no nowhere"),
        (["--cam-history", "{watched}/broken.png", "--preset", "standard"], "--cam-history"),
    ],
)
def test_mistakes_are_told(
    parts: Path, watched: Path, run_cli: Run, small: tuple[str, ...], tmp_path: Path, words: list[str], told: str
) -> None:
    filled = [word.format(watched=watched) for word in words]
    answer = run_cli("train", parts, "--out", tmp_path / "run", *small, *filled)
    assert answer.code == 2
    assert told in answer.err
    assert not (tmp_path / "run" / "recipe").exists()
