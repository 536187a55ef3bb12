"""Which optional packages are there, and what to type for those that are not."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

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
            fix=f'pip install "knowngood[{extra}]"',
        )


def versions_of(*packages: str) -> dict[str, str]:
    """Returns package to version, of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
