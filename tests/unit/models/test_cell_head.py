"""The cell head: its pooled cells are its score, its cells lie over the picture, its views turn back."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from knowngood.cam.maps import cell_layer, cells_of, heat_of, method_for, stage_names
from knowngood.errors import ConfigError
from knowngood.models.cells import Cells, JoinedCells, aligned, marked_cells
from knowngood.models.classifier import Classifier, Inspector, NetworkConfig, cells_config, with_views
from knowngood.recipe.graphs import Scorer


def network(backbone: str = "resnet18", views: int = 1, kinds: tuple[str, ...] = ("bad",), **size: int) -> Classifier:
    torch.manual_seed(0)
    base = NetworkConfig(backbone=backbone, channels=1, **({"height": 96, "width": 96} | size))
    made = Classifier(with_views(cells_config(base, kinds=kinds), views)).eval()
    assert made.cells is not None
    for layer in made.cells.projections:
        torch.nn.init.normal_(layer.weight, std=0.3)
    return made


def pictures(count: int, height: int = 96, width: int = 96) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 1, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


@pytest.mark.parametrize("kinds", [("bad",), ("crack", "scratch", "stain")])
def test_the_mean_of_the_exponentials_of_the_cells_is_that_of_the_score(kinds: tuple[str, ...]) -> None:
    made = network(kinds=kinds)
    with torch.inference_mode():
        found = made.scored(pictures(3))
        r = made.config.sharpness
        by_hand = torch.log(torch.exp(r * found.cell_scores.double()).mean((1, 2))) / r
        assert torch.allclose(by_hand.float(), found.raw_scores, atol=1e-5)
        assert torch.equal(made(pictures(3)), found.raw_scores)
        assert found.kinds.shape == (3, len(kinds))


def test_kinds_teach_the_trunk_nothing() -> None:
    made = network(kinds=("crack", "scratch", "stain")).train()
    found = made.scored(pictures(3))
    weight = made.trunk.conv1.weight
    functional.cross_entropy(found.kinds, torch.tensor([0, 1, 2])).backward(retain_graph=True)
    assert weight.grad is None or not weight.grad.any()
    assert made.cells.projections[0].weight.grad[1:].any()
    assert not made.cells.projections[0].weight.grad[:1].any()
    found.raw_scores.sum().backward()
    assert weight.grad.any()
    assert made.cells.projections[0].weight.grad[:1].any()


def test_projecting_before_resizing_is_projecting_after_it() -> None:
    made = network(kinds=("crack", "scratch"))
    with torch.inference_mode():
        stages = made.stage_maps(pictures(2))
        logits = made.cells(stages)
        normal = [norm(stage) for norm, stage in zip(made.cells.norms, stages, strict=True)]
        joined = torch.cat(made.cells.on_one_grid(normal), dim=1)
        weight = torch.cat([layer.weight for layer in made.cells.projections], dim=1)
        assert torch.allclose(functional.conv2d(joined, weight, made.cells.bias), logits, atol=1e-4)


@pytest.mark.parametrize("backbone", ["resnet18", "efficientnet_lite0", "vgg16"])
def test_maps_of_coarse_stages_come_to_lie_over_the_fine_ones(backbone: str) -> None:
    """A ramp over the picture, sampled at each stage's cells, is the same ramp on one grid, but for the ends."""
    made = network(backbone)
    names = stage_names(made)[-len(made.config.stages) :]
    assert names[0] == cell_layer(made)
    places = cells_of(made, names)
    ramps, fine = [], places[names[0]]
    for stage, name in zip(made.stage_maps(pictures(1)), names, strict=True):
        cells = places[name]
        rows = torch.arange(stage.shape[2]) * cells.stride[0] + cells.offset[0]
        ramps.append(rows.float()[None, None, :, None].expand(1, 1, -1, stage.shape[3]))
    first, last = made.cells.on_one_grid(ramps)[0][0, 0, :, 0], made.cells.on_one_grid(ramps)[-1][0, 0, :, 0]
    inner = (first >= ramps[-1].min()) & (first <= ramps[-1].max())
    assert inner.sum() >= 4
    assert torch.allclose(first[inner], last[inner], atol=1e-3)
    assert fine.stride[0] < places[names[-1]].stride[0]


def test_alignment_repeats_the_ends_and_takes_maps_of_one_cell() -> None:
    fine, coarse = Cells((8.0, 8.0), (0.0, 0.0)), Cells((16.0, 16.0), (0.0, 0.0))
    down, across = aligned(coarse, fine, (2, 1), (5, 2))
    assert down.tolist() == [[1, 0], [0.5, 0.5], [0, 1], [0, 1], [0, 1]]
    assert across.tolist() == [[1, 1]]


@pytest.mark.parametrize("views", [4, 8])
def test_mirrored_and_turned_photographs_get_one_score_and_turned_maps(views: int) -> None:
    made, images = network(views=views), pictures(2)
    with torch.inference_mode():
        found = made.scored(images)
        for axis in (-1, -2):
            other = made.scored(images.flip(axis))
            assert torch.allclose(other.raw_scores, found.raw_scores, atol=1e-4)
            assert torch.allclose(other.cell_scores.flip(axis), found.cell_scores, atol=1e-4)
        turned = made.scored(images.transpose(-1, -2)).raw_scores
        assert torch.allclose(turned, found.raw_scores, atol=1e-4) == (views == 8)


def test_views_of_a_linear_head_are_averaged_too() -> None:
    torch.manual_seed(0)
    base = NetworkConfig(backbone="resnet18", channels=1, height=64, width=96)
    made, images = Classifier(base).eval(), pictures(2, 64, 96)
    with torch.inference_mode():
        mirrored = [images, images.flip(-1), images.flip(-2), images.flip(-1, -2)]
        by_hand = torch.stack([made(one) for one in mirrored]).mean(0)
        made.config = with_views(made.config, 4)
        assert torch.allclose(made(images), by_hand, atol=1e-5)


def test_eight_views_need_squares() -> None:
    base = NetworkConfig(backbone="resnet18", channels=1, height=64, width=96)
    with pytest.raises(ConfigError, match="--views 4"):
        with_views(base, 8)
    with pytest.raises(ValidationError, match="square"):
        NetworkConfig.model_validate(base.model_dump() | {"views": 8})


def test_a_cell_is_marked_by_what_is_nearest_to_its_middle() -> None:
    position = Cells((16.0, 16.0), (0.0, 0.0))
    masks = torch.zeros(4, 64, 64)
    masks[0, 30:34, 30:34] = 1  # around pixel 32: the middle of cell 2
    masks[1, 0, 63] = 1  # a corner: the last cell's
    masks[2, 24, 24] = 1  # half the way between cells 1 and 2: both
    found = marked_cells(masks, position, (4, 4))
    assert found[0].nonzero().tolist() == [[2, 2]]
    assert found[1].nonzero().tolist() == [[0, 3]]
    assert found[2].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert not found[3].any()


def test_cells_of_networks_that_pad_behind_are_marked_at_their_place() -> None:
    masks = torch.zeros(1, 64, 64)
    masks[0, 31, 47] = 1
    found = marked_cells(masks, Cells((16.0, 16.0), (15.0, 15.0)), (4, 4))
    assert found[0].nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("fold", [False, True])
def test_the_graph_gives_the_same_scores_and_the_cells_as_its_map(fold: bool) -> None:
    made = network(views=4, kinds=("crack", "scratch"))
    inspector, images = Inspector((made.config,)), pictures(2)
    inspector.members[0] = made
    graph = Scorer(inspector.eval(), fold=fold).eval()
    assert graph.outputs == ("margin", "map")
    with torch.inference_mode():
        raw, heat = graph(images)
        own = made.scored(images)
    inner = slice(1, -1)  # folding is exact but along the border
    assert torch.allclose(raw, own.raw_scores, atol=1e-4 if not fold else 0.1)
    assert torch.allclose(heat[:, inner, inner], own.cell_scores[:, inner, inner], atol=1e-4 if not fold else 0.5)


def test_its_own_map_is_the_automatic_one_and_gradients_work_as_for_any_network() -> None:
    made = network(views=4)
    inspector, images = Inspector((made.config,)), pictures(2)
    inspector.members[0] = made
    raw, heat = heat_of(inspector.eval(), images)
    with torch.inference_mode():
        own = made.scored(images)
    assert torch.allclose(raw, own.raw_scores)
    hottest = np.unravel_index(int(heat[0].argmax()), heat[0].shape)
    cell = np.unravel_index(int(own.cell_scores[0].argmax()), own.cell_scores[0].shape)
    stride = cells_of(made, (cell_layer(made),))[cell_layer(made)].stride[0]
    assert np.abs(np.array(hottest) - np.array(cell) * stride).max() <= stride
    assert heat_of(inspector, images, "gradcam")[1].shape == heat.shape
    assert made.config.views == 4
    with pytest.raises(ConfigError, match="cell head"):
        method_for(made, "cam")


def test_maps_of_several_networks_meet_at_the_same_places():
    """A ramp over the picture is the same ramp at any stride and input size, away from the borders."""
    fine, coarse = Cells((8.0, 8.0), (3.5, 3.5)), Cells((32.0, 32.0), (15.5, 15.5))
    joined = JoinedCells([coarse, fine], [(4, 4), (8, 8)], [(128, 128), (64, 64)])
    assert joined.finest == 1
    ramps = [
        ((torch.arange(count) * cells.stride[0] + cells.offset[0] + 0.5) / side).expand(1, count, count)
        for count, cells, side in ((4, coarse, 128), (8, fine, 64))
    ]
    inner = joined(ramps)[:, 1:-1, 1:-1]
    assert torch.allclose(inner, 2 * ramps[1][:, 1:-1, 1:-1])
