"""A connection to a Ray cluster, or to one started here: quiet, nothing sent to anybody, no endless waiting."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from knowngood.errors import ConfigError
from knowngood.packages import needed
from knowngood.processors import cores

KNOCK, ANSWER = 5.0, 20.0  # seconds until a port, and then a cluster, counts as silent
STORE = 128 << 20  # bytes of the object store of a cluster started here: enough where only numbers of parts travel
AUTO = "auto"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TQDM": "0",
}
_TRY = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)"


@contextlib.contextmanager
def connected(address: str | None = None, cpus: int | None = None, store: int | None = STORE) -> Iterator[Any]:
    """Yields the module ray, connected; a connection that is there already is used and stays.

    Args:
        address: HOST:PORT of a cluster's head, or "auto" for the one that runs on this machine; RAY_ADDRESS by
            default, and where that is not set a cluster is started here, and ended afterwards.
        cpus: Cores of a cluster that is started here; this machine's by default.
        store: Bytes of its object store; Ray's own choice (a third of the memory) if None.
    """
    os.environ.update(_QUIET)
    import ray

    if ray.is_initialized():
        _hushed()
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS")
    more: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        more |= {"num_cpus": cpus or cores(), "include_dashboard": False, "object_store_memory": store}
    ray.init(address or "local", **more)
    _hushed()
    try:
        yield ray
    finally:
        ray.shutdown()


def _hushed() -> None:
    """Keeps Ray Data's bars and notes off the terminal; they stay in Ray's own logs."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def look(address: str | None) -> None:
    """Looks whether Ray is there and a cluster answers, in a process of its own: Ray itself waits for a minute.

    Args:
        address: As in `connected`.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: Nothing answers at the address.
    """
    needed("ray", "ray", "pyarrow")
    address = address or os.environ.get("RAY_ADDRESS")
    if address is None:
        return
    if "://" in address:
        raise ConfigError(
            f"--address {address!r} has a scheme.",
            expected="HOST:PORT, from a machine of the cluster",
            fix="Leave the scheme out; a machine becomes one of the cluster by `ray start --address=HOST:PORT`.",
        )
    if address not in (AUTO, "local"):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f"--address {address!r}.", expected="HOST:PORT, such as 10.0.0.1:6379, or auto")
        try:
            socket.create_connection((host, int(port)), timeout=KNOCK).close()
        except OSError as error:
            raise _silent(address, str(error.strerror or error)) from error
    os.environ.update(_QUIET)
    try:
        subprocess.run(
            [sys.executable, "-c", _TRY, address], check=True, capture_output=True, text=True, timeout=ANSWER
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        said = error.stderr or ""  # bytes after a time-out, whatever was asked for
        said = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        if "InvalidAuthToken" in said:
            raise ConfigError(
                f"The Ray cluster at {address} asks for a token.",
                expected="the token of its head, as Ray's page on token authentication says",
                fix="Set RAY_AUTH_MODE=token for this command, and give this machine the same token as the head.",
            ) from error
        if isinstance(error, subprocess.TimeoutExpired):
            raise _silent(address, f"no answer of a Ray cluster within {ANSWER:.0f} s") from error
        raise _silent(address, (said.strip().splitlines() or ["Ray ended without a word"])[-1]) from error


def _silent(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"No Ray cluster answers at {address}: {why}.",
        expected="the head of a running cluster, with the same versions of Python and Ray, and this machine in it",
        fix="`ray start --head` there and `ray start --address=HOST:PORT` here; without --address one is started here.",
    )
