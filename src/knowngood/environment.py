"""Which optional packages are there, and what to type for those that are not."""

from __future__ import annotations

import os
import shlex
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from knowngood.errors import MissingExtraError


def installed(package: str) -> bool:
    """Says whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def needed(extra: str, *packages: str) -> None:
    """Looks whether packages are there.

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
