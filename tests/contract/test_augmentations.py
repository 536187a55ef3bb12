"""Every registered transform: repeatable, bounded, and geometry that inverts or keeps what it says."""

import pytest
import torch

from knowngood.data.augmentation import augment, policy_named
from knowngood.data.config import AUGMENTATIONS, POLICIES
from knowngood.errors import UnknownNameError


def batch(channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(6, channels, 6, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, (48, 64), mode="bilinear") * 255


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_the_same_seed_gives_the_same_images(name):
    policy = policy_named(name)
    first, second = (augment(batch(), policy, seeded(1)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_values_and_shape_stay(name, channels):
    images = batch(channels)
    changed = augment(images, policy_named(name), seeded(2))
    assert changed.shape == images.shape
    assert changed.dtype == torch.float32
    assert changed.min() >= -1e-3
    assert changed.max() <= 255 + 1e-3


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_it_changes_something_unless_there_is_no_colour(name):
    images = batch(3)
    assert not torch.allclose(augment(images, policy_named(name), seeded(3)), images, atol=0.5)
    if name == "saturation":
        grey = batch(1).expand(-1, 3, -1, -1)
        assert torch.allclose(augment(grey, policy_named(name), seeded(3)), grey, atol=1e-3)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_kinds_keep_their_promises(name):
    transform = AUGMENTATIONS.get(name)()
    parameters = transform.draw(5, seeded(0))
    assert parameters.shape[0] == 5
    if transform.kind == "geometry":
        matrices = transform.apply(torch.tensor(1.5), parameters)
        assert matrices.shape == (5, 3, 3)
        assert (torch.linalg.det(matrices).abs() > 0.1).all()  # can be undone
        assert torch.equal(matrices[:, 2], torch.tensor([0.0, 0, 1]).expand(5, 3))
    else:
        assert transform.kind == "light"


def test_a_shift_moves_by_what_it_drew():
    from knowngood.data.augmentation import Shift

    images = torch.zeros(1, 1, 40, 40)
    images[0, 0, 20, 10] = 255
    matrix = Shift().apply(torch.tensor(1.0), torch.tensor([[0.1, -0.05]]))
    grid = torch.nn.functional.affine_grid(matrix[:, :2], [1, 1, 40, 40], align_corners=False)
    moved = torch.nn.functional.grid_sample(images, grid, align_corners=False)
    assert moved[0, 0].argmax().item() == 18 * 40 + 14  # 4 px to the right, 2 px up


def test_a_rotation_keeps_proportions_on_wide_images():
    from knowngood.data.augmentation import Rotate

    aspect = torch.tensor(2.0)
    matrix = Rotate().apply(aspect, torch.tensor([[90.0]]))[0]
    corner = matrix @ torch.tensor([0.5, 0.0, 1.0])  # half a half-width right, in pixels one half-height
    assert torch.allclose(corner, torch.tensor([0.0, 1.0, 1.0]), atol=1e-6)


@pytest.mark.parametrize("name", list(POLICIES))
def test_policies_name_registered_transforms(name):
    assert len(policy_named(name)) == len(POLICIES[name])


def test_none_leaves_images_alone():
    images = batch()
    assert torch.allclose(augment(images, policy_named("none"), seeded(0)), images, atol=1e-3)


def test_an_unknown_policy_lists_the_known():
    with pytest.raises(UnknownNameError, match="standard"):
        policy_named("stronk")
