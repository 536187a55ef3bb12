"""Small inspectors of every kind that is exported, and photographs that they tell apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from knowngood.models.classifier import Inspector, NetworkConfig, common_shape


def network(backbone="resnet18", head="linear", side=32, channels=1, **more):
    return NetworkConfig(backbone=backbone, head=head, height=side, width=side, channels=channels, **more)


KINDS = {
    "grey": (network(),),
    "colour": (network(channels=3),),
    "eight views": (network(side=64, views=8),),
    "SVM head": (network(head="kernel", stages=(2, 3, 4), supports=20),),
    "cells": (network(head="cells", side=64, stages=(2, 3), kinds=("crack", "stain"), views=4),),
    "SVM and cells": (network(head="kernel+cells", side=64, stages=(2, 3, 4), supports=20),),
    "patch memory": (network(head="patch_memory", stages=(2, 3), supports=30),),
    "nearest": (network(head="knn", supports=20),),
    "two members with cells": (
        network(head="kernel+cells", side=64, stages=(2, 3, 4), supports=20),
        network(head="cells", side=96, stages=(2, 3)),
    ),
    "two members of different sizes": (network(), network(head="kernel", side=48, stages=(3, 4), supports=20)),
}


def inspector_of(kind: str) -> Inspector:
    torch.manual_seed(0)
    made = Inspector(KINDS[kind]).eval()
    for member in made.members:
        if member.head is not None:
            for name, values in member.head.named_buffers():
                if values.ndim:
                    values.copy_(torch.rand_like(values) + (1 if name == "scale" else 0))
        if member.cells is not None:
            for layer in member.cells.projections:
                torch.nn.init.normal_(layer.weight, std=0.1)
        if hasattr(member.head, "gamma"):
            member.head.gamma.fill_(1e-4)
    return made


def photographs_for(inspector: Inspector, count: int = 24) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = common_shape(inspector.configs)
    drawn = [rng.normal(rng.uniform(40, 200), rng.uniform(5, 60), shape) for _ in range(count)]
    return np.clip(np.stack(drawn), 0, 255).astype(np.uint8)


@pytest.fixture(params=KINDS)
def inspector(request):
    return inspector_of(request.param)


@pytest.fixture(scope="session")
def make_inspector():
    """Makes an inspector of random weights: make_inspector("SVM head")."""
    return inspector_of


@pytest.fixture
def photographs(inspector):
    return photographs_for(inspector)


@pytest.fixture(scope="session")
def grey_inspector():
    return inspector_of("grey")


@pytest.fixture(scope="session")
def grey_photographs(grey_inspector):
    return photographs_for(grey_inspector)
