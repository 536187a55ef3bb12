"""Freezing: what is frozen does not move, neither weights nor statistics, and the rest learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from knowngood.errors import ConfigError
from knowngood.models.backbones import BACKBONES
from knowngood.models.classifier import Classifier, NetworkConfig
from knowngood.parameters import checked_parameters
from knowngood.training.config import Freeze, TrainConfig
from knowngood.training.fine_tuning import LINEAR_PLAN, FineTuning, fine_tune, freeze, head_parameters, part_of
from knowngood.training.targets import Targets


def built(backbone: str = "resnet18") -> Classifier:
    torch.manual_seed(0)
    return Classifier(NetworkConfig(backbone=backbone, height=32, width=32, channels=1))


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_every_network_has_a_stem_stages_and_a_head(backbone: str) -> None:
    with torch.device("meta"):
        classifier = built(backbone)
    parts = {
        part_of(classifier, name) for name, layer in classifier.trunk.named_modules() if list(layer.parameters(False))
    }
    assert parts == {"stem", "stages", "head"}
    freeze(classifier, "all-but-head")
    learning = [p for p in classifier.parameters() if p.requires_grad]
    assert {id(p) for p in learning} == {id(p) for p in head_parameters(classifier)}
    assert id(classifier.head_layer().weight) in {id(p) for p in learning}
    freeze(classifier, "none")
    assert all(p.requires_grad for p in classifier.parameters())


def test_vggs_fully_connected_layers_belong_to_its_head() -> None:
    """Registry weights do not have them: frozen they would stay random."""
    with torch.device("meta"):
        classifier = built("vgg16")
    assert sum(p.numel() for p in head_parameters(classifier)) > 119e6


@pytest.mark.parametrize(
    ("what", "moves"), [("none", ("conv1", "layer1", "fc")), ("stem", ("layer1", "fc")), ("all-but-head", ("fc",))]
)
def test_only_the_rest_moves(what: Freeze, moves: tuple[str, ...], tmp_path: Path) -> None:
    classifier = built()
    before = {name: tensor.clone() for name, tensor in classifier.trunk.state_dict().items()}
    _trained(classifier, what, tmp_path, keep=False)
    moved = _moved(tmp_path, before)
    for part in ("conv1", "bn1", "layer1", "layer4", "fc"):
        expected = part in moves or ("layer1" in moves and part == "layer4") or ("conv1" in moves and part == "bn1")
        assert any(name.startswith(part) for name in moved) == expected, part


def test_kept_statistics_are_kept(tmp_path: Path) -> None:
    """Whatever mode the network comes in: a training that goes on after a kill has no linear probe before it."""
    classifier = built().train()
    before = {name: tensor.clone() for name, tensor in classifier.trunk.state_dict().items()}
    _trained(classifier, "none", tmp_path, keep=True)
    moved = _moved(tmp_path, before)
    assert "conv1.weight" in moved
    assert not [name for name in moved if "running" in name]


def _trained(classifier: Classifier, what: Freeze, folder: Path, *, keep: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 1, 32, 32)).astype(np.uint8)
    targets = Targets((np.arange(32) % 2).astype(np.float32), np.ones(32, np.float32))
    rows = np.arange(24), np.arange(24, 32)
    config = TrainConfig(
        preset="standard", epochs=1, batch_size=8, learning_rate=1e-2, freeze=what, augment="none", precision="fp32"
    )
    fine_tune(classifier, config, pixels, targets, rows, folder, plan=replace(LINEAR_PLAN, keep_statistics=keep))


def _moved(folder: Path, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of tensors, statistics included, that differ after training."""
    state = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    trunk = {name.split("classifier.trunk.")[1]: tensor for name, tensor in state.items()}
    assert trunk.keys() == before.keys()
    return {name for name, tensor in trunk.items() if not torch.equal(tensor, before[name])}


def test_frozen_parameters_are_not_in_the_optimizer() -> None:
    module = FineTuning(
        built(), TrainConfig(preset="standard", freeze="all-but-head"), 10, replace(LINEAR_PLAN, keep_statistics=False)
    )
    held = [p for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in head_parameters(module.classifier)}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"freeze": "stem", "preset": "standard", "pretrained": False}, "random weights"),
        ({"freeze": "stem", "preset": "quick"}, "--epochs"),
        ({"freeze": "everything"}, "all-but-head"),
    ],
)
def test_freezing_that_makes_no_sense_is_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        checked_parameters(TrainConfig, fields)


@pytest.mark.parametrize(("pretrained", "rate"), [(True, LINEAR_PLAN.rate), (False, 1e-3)])
def test_random_weights_need_another_rate_than_pretrained_ones(pretrained: bool, rate: float) -> None:
    module = FineTuning(built(), TrainConfig(preset="standard", pretrained=pretrained), 10, LINEAR_PLAN)
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert {group["initial_lr"] for group in groups} == {rate, rate * LINEAR_PLAN.head_factor}
