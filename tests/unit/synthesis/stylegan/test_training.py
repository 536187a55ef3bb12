"""Training a very small StyleGAN: learns, resumes bit for bit, adapts, freezes, stops at NaN, in two processes."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

import knowngood.models.torchvision_ops  # noqa: F401  (before Lightning)

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file

from knowngood.errors import ConfigError, TrainingError
from knowngood.progress import Silent, reporting_to
from knowngood.synthesis.stylegan.config import NetworksConfig, SynthesisConfig
from knowngood.synthesis.stylegan.generators import GeneratorFacts, open_generator
from knowngood.synthesis.stylegan.losses import Square
from knowngood.synthesis.stylegan.stepping import ADA_EVERY, Shown, Training
from knowngood.synthesis.stylegan.training import train_stylegan, write_animation
from knowngood.training.processes import in_processes

NETWORKS = NetworksConfig(resolution=32, latent=16, mapping_layers=2, base=128, most=16)
FACTS = GeneratorFacts(networks=NETWORKS, square=Square(), height=40, width=30, label=1)


def config(**fields: object) -> SynthesisConfig:
    plain = {"resolution": 32, "batch_size": 4, "kimg": 0.04, "tick_kimg": 0.02, "latent": 16, "precision": "fp32"}
    residual = {"discriminator": "residual", "path_length": 2.0}
    return SynthesisConfig.model_validate(plain | residual | fields)


def shown(count: int = 24, value: int | None = None) -> Shown:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (count, 1, 32, 32)).astype(np.uint8)
    return Shown(pixels if value is None else np.full_like(pixels, value))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return open_generator(folder).network.state_dict()


def test_it_moves_towards_what_it_is_shown(tmp_path: Path) -> None:
    train_stylegan(
        {"bad": shown(value=230)},
        FACTS,
        tmp_path,
        config(kimg=0.3, tick_kimg=0.15, ema_kimg=0.02, r1=0.0, path_length=0.0),
    )
    bright = open_generator(tmp_path).pictures(0, range(16)).mean()
    dark = tmp_path / "dark"
    train_stylegan(
        {"bad": shown(value=30)}, FACTS, dark, config(kimg=0.3, tick_kimg=0.15, ema_kimg=0.02, r1=0.0, path_length=0.0)
    )
    assert bright > open_generator(dark).pictures(0, range(16)).mean() + 60
    film = write_animation(tmp_path)
    assert film is not None
    assert len(list((tmp_path / "grids").glob("*.png"))) == 3


def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train_stylegan({"bad": shown()}, FACTS, whole, config())
    calls = []

    def killed(generator: object, kimg: float) -> dict[str, float]:
        calls.append(kimg)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train_stylegan({"bad": shown()}, FACTS, halves, config(), killed)
    history = train_stylegan({"bad": shown()}, FACTS, halves, config())
    assert [row["kimg"] for row in history] == [0.02, 0.04]
    one, two = weights(whole), weights(halves)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_checkpoint_of_other_networks_is_refused(tmp_path: Path) -> None:
    train_stylegan({"bad": shown()}, FACTS, tmp_path, config(kimg=0.02))
    other = FACTS.model_copy(update={"networks": NETWORKS.model_copy(update={"most": 32})})
    with pytest.raises(ConfigError, match="other networks"):
        train_stylegan({"bad": shown()}, other, tmp_path, config(kimg=0.04))
    judged_otherwise = config(kimg=0.04, discriminator="both", model="efficientnet_lite0")
    with pytest.raises(ConfigError, match="projected and residual"):
        train_stylegan({"bad": shown()}, FACTS, tmp_path, judged_otherwise)


def test_good_parts_come_first_and_frozen_blocks_stay(tmp_path: Path) -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    training = Training(config(), NETWORKS, fabric)
    training.freeze(1)
    before = [p.clone() for layer in training.discriminators[0].network.finest(1) for p in layer.parameters()]
    rest = training.discriminators[0].network.close.weight.clone()
    for number in range(3):
        training.step(shown(), number)
    after = [p for layer in training.discriminators[0].network.finest(1) for p in layer.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.equal(rest, training.discriminators[0].network.close.weight)
    history = train_stylegan(
        {"good": shown(30, 200), "bad": shown()}, FACTS, tmp_path, config(good_kimg=0.04, kimg=0.02, freeze_blocks=1)
    )
    assert [row["kimg"] for row in history] == [0.02, 0.04, 0.06]


def test_augmentation_rises_while_the_discriminator_overfits_and_falls_otherwise() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    training = Training(config(ada_target=0.5, ada_kimg=0.1), NETWORKS, fabric)
    for target, direction in ((-1.0, 1), (0.99, -1)):
        training.config = training.config.model_copy(update={"ada_target": target})
        before = training.progress.p
        for number in range(ADA_EVERY):
            training.step(shown(), number)
        change = ADA_EVERY * 4 / (0.1 * 1000)
        assert training.progress.p == pytest.approx(max(0.0, min(0.8, before + direction * change)))


def test_nothing_that_is_finite_any_more_stops_it_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    train_stylegan({"bad": shown()}, FACTS, tmp_path, config(kimg=0.02))
    kept, good = (tmp_path / "work" / "last.ckpt").read_bytes(), weights(tmp_path)
    with pytest.raises(TrainingError, match="loss became"):
        train_stylegan({"bad": shown()}, FACTS, tmp_path, config(kimg=0.2, tick_kimg=0.1, learning_rate=0.1, r1=1e38))
    assert (tmp_path / "work" / "last.ckpt").read_bytes() == kept
    assert all(torch.equal(good[name], value) for name, value in weights(tmp_path).items())
    assert all(math.isfinite(float(value.sum())) for value in good.values())


def test_every_photograph_is_shown_once_before_any_comes_again() -> None:
    pixels = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1).repeat(4, axis=2).repeat(4, axis=3)
    source = Shown(pixels)
    seen = np.concatenate([source.batch(step, 4, 0, 0, 1)[0][:, 0, 0, 0].numpy() for step in range(5)])
    values = np.round((seen + 1) * 127.5).astype(int)
    assert sorted(values[:10]) == list(range(10)) == sorted(values[10:])
    halves = [source.batch(1, 4, 0, rank, 2)[0][:, 0, 0, 0] for rank in (0, 1)]
    joined = torch.stack(halves, dim=1).flatten()
    assert torch.equal(joined, source.batch(1, 4, 0, 0, 1)[0][:, 0, 0, 0])


# A module of its own: pytest's way of importing tests gives this one a name that a new process does not find.
STEPS_OF_A_PROCESS = """
import knowngood.models.torchvision_ops
import numpy as np
from lightning.fabric import Fabric
from safetensors.torch import save_file
from knowngood.synthesis.stylegan.stepping import Shown, Training


def steps(folder, config, networks):
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    training = Training(config, networks, fabric)
    shown = Shown(np.random.default_rng(0).integers(0, 255, (24, 1, 32, 32)).astype(np.uint8))
    for number in range(2):
        training.step(shown, number)
    parts = {}
    state = training.state()
    state |= {name: weights for name, (weights, _) in state["discriminators"].items()}
    for network in ("generator", "average", *(discriminator.name for discriminator in training.discriminators)):
        parts |= {f"{network}.{name}": value.contiguous() for name, value in state[network].items()}
    parts.pop("generator.mapping.average")  # each has seen its own; the averaged generator has their mean
    save_file(parts, folder / f"{fabric.global_rank}.safetensors")
"""


def test_two_processes_see_different_photographs_and_stay_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "steps_of_a_process.py").write_text(STEPS_OF_A_PROCESS)
    monkeypatch.syspath_prepend(tmp_path)
    steps = importlib.import_module("steps_of_a_process").steps
    both = {"discriminator": "both", "model": "efficientnet_lite0"}
    in_processes(steps, 2, tmp_path, config(batch_size=8, devices=2, **both), NETWORKS)
    one, two = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)


class Heard(Silent):
    """Keeps what it is told of StyleGAN."""

    def __init__(self) -> None:
        self.steps = 0
        self.said: list[str] = []
        self.totals: list[int | None] = []
        self.finished = 0

    def start(self, title: str, total: int | None, done: int = 0) -> int:
        self.totals.append(total)
        return 7

    def advance(self, task: int, steps: int = 1, note: str = "") -> None:
        assert task == 7
        assert note.endswith("kimg")
        self.steps += steps

    def finish(self, task: int) -> None:
        self.finished += task == 7

    def say(self, message: str) -> None:
        self.said.append(message)


def test_two_processes_leave_a_generator_and_tell_how_far_they_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = Heard()
    with reporting_to(heard):
        train_stylegan({"bad": shown()}, FACTS, tmp_path, config(devices=2, batch_size=8, kimg=0.016, tick_kimg=0.016))
    found = weights(tmp_path)
    assert all(torch.isfinite(value).all() for value in found.values())
    state = torch.load(tmp_path / "work" / "last.ckpt", weights_only=True)
    assert state["progress"]["step"] == 2
    assert (heard.totals, heard.steps, heard.finished) == ([2], 2, 1)
    assert len(heard.said) == 1
    assert heard.said[0].startswith("kimg 0.016")
    assert capfd.readouterr() == ("", "")  # and Lightning is silent


def test_what_one_of_two_processes_raises_is_told_as_it_would_be_of_one(tmp_path: Path) -> None:
    given = config(devices=2, batch_size=8, kimg=0.2, tick_kimg=0.1, learning_rate=0.1, r1=1e38)
    with pytest.raises(TrainingError, match="loss became") as caught:
        train_stylegan({"bad": shown()}, FACTS, tmp_path, given)
    assert caught.value.fix is not None
    assert "--learning-rate" in caught.value.fix


def test_samples_can_be_made_again_one_by_one(tmp_path: Path) -> None:
    train_stylegan({"bad": shown()}, FACTS, tmp_path, config(kimg=0.02))
    generator = open_generator(tmp_path)
    many, one = generator.pictures(5, [3, 9, 40]), open_generator(tmp_path).pictures(5, [9])
    assert np.abs(many[1].astype(int) - one[0]).max() <= 1
    assert not np.array_equal(many[0], many[1])
    (tmp_path / "generator.json").write_text("{}")
    with pytest.raises(ConfigError, match="version"):
        open_generator(tmp_path)
    with pytest.raises(ConfigError, match="no generator"):
        open_generator(tmp_path / "nowhere")
