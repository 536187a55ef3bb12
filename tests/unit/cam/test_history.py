"""The CAM history of a training: what is written is read again, in order, also as version 0.1 wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from knowngood.cam.history import CamRecorder, read_cam_history
from knowngood.models.classifier import Classifier, NetworkConfig


def test_epochs_are_read_in_order_with_raw_scores_and_a_map_a_stage(tmp_path: Path) -> None:
    photographs = [np.full((40, 50), 90, np.uint8), np.full((40, 50, 3), 160, np.uint8)]
    network = Classifier(NetworkConfig(backbone="resnet18", height=64, width=64, channels=1)).train()
    record = CamRecorder(tmp_path, photographs)
    record(network, 11)
    record(network, 2)
    frames = read_cam_history(tmp_path)
    assert [frame.epoch for frame in frames] == [2, 11]
    assert frames[0].raw_scores.shape == (2,)
    assert list(frames[0].maps) == ["layer1", "layer2", "layer3", "layer4"]
    assert all(heat.shape == (2, 64, 64) for heat in frames[0].maps.values())
    assert network.training


@pytest.mark.parametrize("name", ["raw_scores", "margins"])
def test_files_of_version_0_1_are_read(tmp_path: Path, name: str) -> None:
    np.savez_compressed(tmp_path / "epoch_000.npz", **{name: np.ones(2, np.float32), "map:layer4": np.zeros((2, 4, 4))})
    (frame,) = read_cam_history(tmp_path)
    assert frame.raw_scores.tolist() == [1, 1]
    assert frame.maps["layer4"].shape == (2, 4, 4)
