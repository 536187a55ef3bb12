"""Trained tensors of a backbone, and the file that they are kept in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowngood.errors import StorageError, WeightsError
from knowngood.files import cache_folder, sha256_of, whole_file
from knowngood.models.backbones import BACKBONES
from knowngood.models.weights.packages import CAFFE_STRIDED_FILES, IMAGENET_MEAN, IMAGENET_STD

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Weights:
    """Trained tensors of a backbone under timm's names, and how its input was normalised.

    Attributes:
        state: Tensor name to float32 tensor; the 1000-class head is in it only if `complete`.
        mean, std: Normalisation of RGB in 0..1.
        strided_1x1: Whether the stride sits on the first 1x1 convolution of the downsampling blocks.
        norm_epsilon: Epsilon of the batch norms, None for the network's own.
        complete: Whether the classifier layers are there too.
        origin: Where they came from, for the recipe's provenance.
        licence: Terms, as stated by the origin.
    """

    state: dict[str, torch.Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    strided_1x1: bool
    norm_epsilon: float | None
    complete: bool
    origin: str
    licence: str


def cached(backbone: str) -> Path:
    """Returns where the cache keeps a backbone's weights, whether or not they are there."""
    return cache_folder("weights") / f"{backbone}.safetensors"


def read_weights(path: Path, backbone: str) -> Weights:
    """Reads a safetensors file; one without our metadata is taken as timm's: its names, its normalisation."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as handle:
            facts = handle.metadata() or {}
            state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"The weights file {path} cannot be read: {error}",
            expected=f"a .safetensors file with the tensors of {backbone}",
            fix=f"Name another with --weights; in the cache, replace it by `knowngood weights --fetch {backbone}`.",
        ) from error
    state = {n: plain(t) for n, t in state.items()}
    ours = timm_state(backbone)
    try:
        check_pairs(state, ours)
    except ValueError as error:
        raise WeightsError(f"{path} does not fit {backbone}: {error}.", fix="Name another --model or file.") from error

    config = _timm_config(backbone)
    strided = facts.get("strided_1x1") == "1" or sha256_of(path) in CAFFE_STRIDED_FILES
    return Weights(
        state=state,
        mean=_three(facts["mean"].split(",") if "mean" in facts else config["mean"]),
        std=_three(facts["std"].split(",") if "std" in facts else config["std"]),
        strided_1x1=strided,
        norm_epsilon=float(facts["norm_epsilon"]) if facts.get("norm_epsilon") else None,
        complete=set(state) >= {n for n in ours if not n.endswith("num_batches_tracked")},
        origin=facts.get("origin", f"{path.name} (sha256 {sha256_of(path)[:12]})"),
        licence=facts.get("licence", "not stated in the file"),
    )


def kept(backbone: str, weights: Weights) -> Weights:
    """Writes weights to the cache, their facts as the file's metadata, and returns them."""
    from safetensors.torch import save_file

    facts = {
        "mean": ",".join(map(repr, weights.mean)),
        "std": ",".join(map(repr, weights.std)),
        "strided_1x1": str(int(weights.strided_1x1)),
        "norm_epsilon": "" if weights.norm_epsilon is None else repr(weights.norm_epsilon),
        "complete": str(int(weights.complete)),
        "origin": weights.origin,
        "licence": weights.licence,
    }
    # a home that cannot be written is no reason not to train: where they came from, they can be had again
    with contextlib.suppress(StorageError), whole_file(cached(backbone)) as scratch:
        save_file(weights.state, scratch, metadata=facts)
    return weights


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Returns it contiguous and, unless it counts something, in float32."""
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def check_pairs(tensors: dict[str, torch.Tensor], ours: dict[str, torch.Tensor]) -> None:
    """Raises ValueError unless every tensor has its place and shape in the network."""
    for name, tensor in tensors.items():
        if name not in ours or ours[name].shape != tensor.shape:
            raise ValueError(f"tensor {name} of shape {tuple(tensor.shape)} has no place in the network")


def timm_state(backbone: str) -> dict[str, torch.Tensor]:
    """Returns the untrained tensors of timm's network: names and shapes to pair with."""
    import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

    import timm

    state: dict[str, torch.Tensor] = timm.create_model(BACKBONES.get(backbone).timm_name).state_dict()
    return state


def _timm_config(backbone: str) -> dict[str, Any]:
    import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

    import timm

    config = timm.get_pretrained_cfg(BACKBONES.get(backbone).timm_name)
    return {"mean": config.mean, "std": config.std} if config else {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def _three(values: Iterable[Any]) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third
