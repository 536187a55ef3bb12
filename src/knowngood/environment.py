"""Which optional packages are there, and what to type for those that are not."""

from __future__ import annotations

import os
import shlex
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from knowngood.errors import ConfigError, MissingExtraError


def installed(package: str) -> bool:
    """Returns whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def needed(extra: str, *packages: str) -> None:
    """Checks that packages are installed.

    Args:
        extra: Of knowngood, which installs them.
        *packages: Their names.

    Raises:
        MissingExtraError: One is missing.
    """
    missing = [name for name in packages if not installed(name)]
    if missing:
        raise MissingExtraError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed.",
            expected=f"the extra {extra!r} of knowngood",
            fix=install_command(extra),
        )


def install_command(extra: str) -> str:
    """Returns what to type for an extra of knowngood: in a clone with its pinned versions, else from the index."""
    clone = Path(__file__).resolve().parents[2]
    if not (clone / "pyproject.toml").is_file() or not (clone / "constraints.txt").is_file():
        return f'pip install "knowngood[{extra}]"'
    try:
        here = Path.cwd().samefile(clone)
    except OSError:
        here = False
    if here:
        return f'pip install -e ".[{extra}]" -c constraints.txt'
    return f"pip install -e {shlex.quote(f'{clone}[{extra}]')} -c {shlex.quote(str(clone / 'constraints.txt'))}"


def versions_of(*packages: str) -> dict[str, str]:
    """Returns package to version, of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_device(device: str) -> None:
    """Decides for this process, and those that it starts, whether networks run on a GPU.

    Args:
        device: "cpu" hides the GPUs, "cuda" requires one, "auto" takes one where there is one.

    Raises:
        ConfigError: "cuda" is asked for and torch sees no GPU, or the name is none of the three.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"There is no device {device!r}.", expected="auto, cpu or cuda")
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch reads it when it first looks for a GPU
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                "--device cuda: torch sees no GPU on this machine.",
                expected="an NVIDIA GPU, its driver, and a build of torch with CUDA",
                fix="--device auto takes the processor; nvidia-smi shows which GPUs the driver sees",
            )
