"""The projected discriminator: what it sees through stays as it is, what it says depends on every scale."""

from __future__ import annotations

from pathlib import Path

import knowngood.models.torchvision_ops  # noqa: F401  (before Lightning)

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric
from pydantic import ValidationError

from knowngood.synthesis.stylegan.config import NetworksConfig, SynthesisConfig
from knowngood.synthesis.stylegan.discriminators import Mixing, ProjectedDiscriminator, clouds, seeing
from knowngood.synthesis.stylegan.generators import GeneratorFacts, open_generator
from knowngood.synthesis.stylegan.losses import Square, discriminator_hinge, generator_hinge
from knowngood.synthesis.stylegan.networks import deviations
from knowngood.synthesis.stylegan.stepping import Shown, Training
from knowngood.synthesis.stylegan.training import train_stylegan

NETWORKS = NetworksConfig(resolution=32, latent=16, mapping_layers=2, base=128, most=16)
SEEN_BY, SIDE = "efficientnet_lite0", 32


def config(**fields: object) -> SynthesisConfig:
    plain = {"resolution": 32, "batch_size": 4, "kimg": 0.016, "tick_kimg": 0.008, "latent": 16, "precision": "fp32"}
    projected = {"discriminator": "projected", "model": SEEN_BY}
    return SynthesisConfig.model_validate(plain | projected | fields)


def shown(count: int = 12) -> Shown:
    return Shown(np.random.default_rng(0).integers(0, 255, (count, 1, 32, 32)).astype(np.uint8))


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)
    return


def discriminator(classes: int = 0) -> ProjectedDiscriminator:
    networks = NETWORKS.model_copy(update={"classes": classes})
    return ProjectedDiscriminator(networks, seeing(SEEN_BY, SIDE, 1))


def pictures(count: int = 3) -> torch.Tensor:
    return clouds(32, 1, count) / 127.5 - 1


def test_every_scale_has_its_logits_and_samples_do_not_see_photographs() -> None:
    judge = discriminator().eval()  # eval: the spectral norms' vectors stay
    fake, real = pictures(4), -pictures(4)
    maps = judge._seen_by[0].stage_maps((real + 1) * 127.5)
    on_fake, on_real = judge.both(fake, real)
    assert on_real.shape == (4, sum(head(m).shape[2] for head, m in zip(judge.heads, judge.mixing(maps), strict=True)))
    torch.testing.assert_close(on_fake, judge(fake), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(on_real, judge(real), atol=1e-4, rtol=1e-4)


def test_deviations_are_those_of_each_place_within_a_group() -> None:
    maps = torch.randn(16, 3, 2, 2)
    found = deviations(maps, 8)
    for first in range(2):  # two groups of eight: every second image
        wanted = np.std(maps[first::2].numpy(), axis=0)
        for image in range(first, 16, 2):
            np.testing.assert_allclose(found[image].numpy(), wanted, atol=1e-5)
    assert deviations(maps[:7], 8).shape == (7, 3, 2, 2)
    assert float(deviations(maps[:1].expand(8, -1, -1, -1), 8).max()) < 1e-3


def test_the_finest_mixed_maps_depend_on_the_coarsest_and_keep_their_spread() -> None:
    maps = [torch.randn(4, 8, 16, 16) * 3, torch.randn(4, 12, 8, 8) * 0.1, torch.randn(4, 20, 4, 4)]
    mixing = Mixing(maps)
    mixed = mixing(maps)
    assert [tuple(each.shape[1:]) for each in mixed] == [(64, 16, 16), (128, 8, 8), (256, 4, 4)]
    assert all(0.4 < float(each.std()) < 1.6 for each in mixed)
    other = mixing([maps[0], maps[1], maps[2] + 1])
    assert not torch.equal(mixed[0], other[0])
    finer = mixing([maps[0] + 1, maps[1], maps[2]])
    assert torch.equal(mixed[2], finer[2])


def test_what_it_sees_through_is_neither_trained_nor_saved() -> None:
    training = Training(config(), NETWORKS, Fabric(accelerator="cpu", devices=1))
    judge = training.discriminators[0].network
    assert isinstance(judge, ProjectedDiscriminator)
    trunk = judge._seen_by[0]
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    fixed = judge.mixing.across_0.clone()
    heads = judge.heads[0].score.weight.detach().clone()
    for number in range(2):
        training.step(shown(), number)
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
    assert torch.equal(fixed, judge.mixing.across_0)
    assert not torch.equal(heads, judge.heads[0].score.weight)
    saved = sum(value.numel() for value in judge.state_dict().values())
    own = sum(value.numel() for part in (judge.mixing, judge.heads) for value in part.state_dict().values())
    assert saved == own


def test_gradients_reach_the_picture_and_no_layer_stretches_more_than_once() -> None:
    judge = discriminator()
    given = pictures().requires_grad_(True)
    for _ in range(30):  # power iterations
        judge(given.detach())
    judge(given).sum().backward()
    assert given.grad is not None
    assert float(given.grad.abs().mean()) > 0
    for head in judge.heads:
        for layer in (*head.blocks, head.wide, head.score):
            assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(1, abs=0.05)


def test_each_class_has_its_own_logits() -> None:
    judge = discriminator(classes=2).eval()
    given = pictures(1).repeat(2, 1, 1, 1)
    one, two = (judge(given, torch.full((2,), k)) for k in (0, 1))
    both = judge(given, torch.tensor([0, 1]))
    torch.testing.assert_close(both, torch.stack([one[0], two[1]]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(one, two)


def test_the_hinge_wants_no_more_than_a_margin_of_one() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert float(discriminator_hinge(real, fake)) == pytest.approx((0 + 0.5) / 2 + (0 + 1) / 2)
    assert float(generator_hinge(fake)) == pytest.approx(1.5)


def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    facts = GeneratorFacts(networks=NETWORKS, square=Square(), height=32, width=32, label=1)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train_stylegan({"bad": shown()}, facts, whole, config())

    def killed(generator: object, kimg: float) -> dict[str, float]:
        if kimg > 0.01:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        train_stylegan({"bad": shown()}, facts, halves, config(), killed)
    train_stylegan({"bad": shown()}, facts, halves, config())
    one, two = (open_generator(folder).network.state_dict() for folder in (whole, halves))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_judge_side_by_side_and_the_second_may_join_later() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    training = Training(config(discriminator="both", join_kimg=0.008), NETWORKS, fabric)  # two steps of four
    residual, projected = training.discriminators
    assert (residual.name, projected.name) == ("residual", "projected")
    at_first = projected.network.heads[0].score.weight.detach().clone()
    moved = []
    for number in range(3):
        before = residual.network.close.weight.detach().clone()
        training.step(shown(), number)
        moved.append(not torch.equal(at_first, projected.network.heads[0].score.weight))
        assert not torch.equal(before, residual.network.close.weight)
    assert moved == [False, False, True]
    assert {"residual", "projected", "generator", "r1"} <= training.losses.keys()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"r1": 0.1}, "residual"),
        ({"good_kimg": 1, "freeze_blocks": 1}, "residual"),
        ({"model": "eyes"}, "resnet50"),
        ({"discriminator": "residual"}, "--model"),
    ],
)
def test_options_that_do_not_go_together_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**fields)
