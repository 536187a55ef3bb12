"""Fine-tuning: it learns, repeats itself, goes on after being stopped, and stops on a loss that is not finite."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from knowngood.errors import TrainingError
from knowngood.models.backbones import BACKBONES, Backbone
from knowngood.models.classifier import Classifier, NetworkConfig, cells_config
from knowngood.progress import Silent, reporting_to
from knowngood.training.config import TrainConfig
from knowngood.training.epochs import as_good, kept_epoch
from knowngood.training.fine_tuning import LINEAR_PLAN, fine_tune
from knowngood.training.targets import Targets

SIDE = 32


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """A residual network of half a million weights, registered as any third party would."""
    BACKBONES.register("tiny", Backbone("test_resnet", "timm's own network for tests"))
    yield
    BACKBONES.unregister("tiny")


def photographs(count: int = 320) -> tuple[np.ndarray, Targets]:
    """Grey noise; the bad third has a bright square."""
    random = np.random.default_rng(0)
    pixels = random.normal(100, 12, (count, 1, SIDE, SIDE))
    bad = np.arange(count) % 3 == 0
    for row in np.flatnonzero(bad):
        y, x = random.integers(2, SIDE - 10, 2)
        pixels[row, 0, y : y + 8, x : x + 8] += 70
    targets = Targets(bad.astype(np.float32), np.ones(count, np.float32))
    return np.clip(pixels, 0, 255).astype(np.uint8), targets


def built(head, backbone="tiny"):
    torch.manual_seed(0)
    linear = NetworkConfig(backbone=backbone, height=SIDE, width=SIDE, channels=1)
    return Classifier(linear if head == "pooled" else cells_config(linear, (2, 3)))


def run(folder, epochs=5, keep=False, watcher=None, head="pooled", **options):
    classifier = built(head)
    usual = {"batch_size": 16, "learning_rate": 1e-3, "augment": "flip", "precision": "fp32"}
    config = TrainConfig(epochs=epochs, **{**usual, **options})
    pixels, targets = photographs()
    rows = np.arange(len(pixels))
    parts = (rows[:240], rows[240:])
    history = fine_tune(
        classifier,
        config,
        pixels,
        targets,
        parts,
        folder,
        plan=replace(LINEAR_PLAN, keep_statistics=keep),
        watcher=watcher,
    )
    return classifier, history


class Stopper(Silent):
    """Presses Ctrl-C when a message comes by."""

    def __init__(self, at: str) -> None:
        self.at = at

    def start(self, title: str, total: int | None) -> int:
        if title.startswith(self.at):
            raise KeyboardInterrupt
        return 0


@pytest.fixture(scope="module", params=["pooled", "cells"])
def head(request):
    return request.param


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, head):
    return run(tmp_path_factory.mktemp("unbroken"), head=head)


def test_it_learns_a_square(unbroken):
    _, history = unbroken
    assert [row["epoch"] for row in history] == [0, 1, 2, 3, 4, 5]
    assert max(row["val_auroc"] for row in history) > 0.95
    assert history[-1]["train_loss"] < history[1]["train_loss"]


def test_a_stopped_training_goes_on_as_if_it_had_not_been(unbroken, head, tmp_path):
    with reporting_to(Stopper("epoch 3/")), pytest.raises(KeyboardInterrupt):
        run(tmp_path, head=head)
    assert (tmp_path / "last.ckpt").is_file()
    torch.rand(7)  # the state of torch's generator is another one in a new process
    classifier, history = run(tmp_path, head=head)
    for ours, theirs in zip(history, unbroken[1], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(np.isclose(ours[k], theirs[k], atol=1e-5) for k in ours if k != "seconds")
    for name, tensor in classifier.state_dict().items():
        assert torch.allclose(tensor.float(), unbroken[0].state_dict()[name].float(), atol=1e-5), name


def test_the_latest_epoch_that_is_no_worse_but_for_chance_is_kept(unbroken):
    classifier, history = unbroken
    pixels, targets = photographs()
    with torch.inference_mode():
        raw_scores = classifier.eval()(torch.from_numpy(pixels[240:])).numpy()
    from sklearn.metrics import roc_auc_score

    kept = kept_epoch(history)
    assert roc_auc_score(targets.bad[240:], raw_scores) == pytest.approx(kept["val_auroc"], abs=1e-6)
    assert all(row["val_auroc"] < kept["val_auroc"] for row in history if row["epoch"] > kept["epoch"])


@pytest.mark.parametrize(("shift", "kept"), [(0.0, True), (0.3, True), (3.0, False)])
def test_chance_is_one_standard_error_of_the_difference(shift, kept):
    random = np.random.default_rng(0)
    bad = np.arange(60) < 20
    best = random.normal(size=60) + 2.5 * bad
    assert as_good(bad, best + shift * random.normal(size=60), best) is kept
    assert as_good(bad[:1], best[:1], best[:1])  # one photograph: nothing can be said


def test_a_loss_that_is_not_finite_stops_and_says_what_to_do(tmp_path, monkeypatch):
    def broken(*_):
        return torch.full((16,), float("nan"))

    monkeypatch.setattr("torch.nn.functional.binary_cross_entropy_with_logits", lambda *a, **k: broken())
    with pytest.raises(TrainingError, match="learning-rate"):
        run(tmp_path)
    assert (tmp_path / "best.safetensors").is_file()  # epoch 0 is whole


def test_patience_ends_a_training_that_no_longer_improves(tmp_path):
    _, history = run(tmp_path, epochs=30, patience=2)
    scores = [row["val_auroc"] for row in history]
    assert len(history) < 31
    assert len(history) - 1 - int(np.argmax(scores)) == 2


def test_class_weights_move_scores_towards_the_rarer_class(tmp_path):
    """The bad third counts as much as the good rest, so that every score rises; inverted weights would lower it."""
    shown = torch.from_numpy(photographs()[0][240:])
    means: dict[str, float] = {}

    def watch(classifier, epoch):
        with torch.inference_mode():
            means[name] = float(classifier(shown).mean())

    for name in ("weights", "none"):
        run(tmp_path / name, epochs=1, balance=name, watcher=watch)
    assert means["weights"] > means["none"] + 0.02


def test_two_processes_learn_what_one_does(tmp_path, head):
    """Halves of the same batches, gradients averaged: the same losses to within rounding, where nothing is drawn."""
    pixels, targets = photographs(160)
    stored = np.memmap(tmp_path / "pixels.u8", np.uint8, "w+", shape=pixels.shape)
    stored[:] = pixels
    stored.flush()
    rows = np.arange(160)
    histories, states = [], []
    for devices, batch in ((1, 16), (2, 8)):
        classifier = built(head, "resnet18")
        if classifier.cells is not None:
            classifier.cells.dropout.p = 0.0
        config = TrainConfig(epochs=1, batch_size=batch, devices=devices, augment="none", precision="fp32", seed=3)
        folder = tmp_path / str(devices)
        rows_of = (rows[:120], rows[120:])
        histories.append(fine_tune(classifier, config, stored, targets, rows_of, folder, plan=LINEAR_PLAN))
        states.append(classifier.state_dict())
    for one, two in zip(*histories, strict=True):
        for name in ("train_loss", "val_loss"):
            if name in one:
                assert two[name] == pytest.approx(one[name], abs=1e-3), name
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-3, rtol=1e-3)
