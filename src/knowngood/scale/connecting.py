"""A connection to a Ray cluster, or to one started here: quiet, nothing sent to anybody, no endless waiting."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from knowngood.environment import cores, needed
from knowngood.errors import ConfigError

KNOCK, ANSWER = 5.0, 20.0  # seconds until a port, and then a cluster, counts as silent
STORE = 128 << 20  # bytes of the object store of a cluster started here: enough where only numbers of parts travel
AUTO = "auto"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TQDM": "0",
}
# Of a cluster that is started here: Ray takes its own address for this machine's loopback, and asks for a token that
# nobody else has. Both are read when ray is imported or started; what the user has set stays as it is.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
LOOPBACK = "127.0.0.1"
_TRY = "import sys, ray; ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)"


@contextlib.contextmanager
def connected(address: str | None = None, cpus: int | None = None, store: int | None = STORE) -> Iterator[Any]:
    """Yields the module ray, connected; a connection that is there already is used and stays.

    A cluster that is started here listens on this machine's loopback alone, has no dashboard, and takes tasks from
    nobody without its token, which is drawn anew each time and written nowhere.

    Args:
        address: HOST:PORT of a cluster's head, or "auto" for the one that runs on this machine; RAY_ADDRESS by
            default, and where that is not set a cluster is started here, and ended afterwards.
        cpus: Cores of a cluster that is started here; this machine's by default.
        store: Bytes of its object store; Ray's own choice (a third of the memory) if None.
    """
    os.environ.update(_QUIET)
    address = address or os.environ.get("RAY_ADDRESS")
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        _silence_logs()
        yield sys.modules["ray"]
        return
    here = address in (None, "local")
    with _alone() if here else contextlib.nullcontext():
        import ray

        more: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if here:
            more |= {"num_cpus": cpus or cores(), "include_dashboard": False, "object_store_memory": store}
            more |= {"_node_ip_address": LOOPBACK, "dashboard_host": LOOPBACK}
        with _no_head_of_a_dashboard() if here else contextlib.nullcontext():
            ray.init(address or "local", **more)
        _silence_logs()
        try:
            yield ray
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _no_head_of_a_dashboard() -> Iterator[None]:
    """Has a cluster that is started inside go without the process that serves the dashboard.

    Without the dashboard Ray starts it all the same, for its statistics of usage; and where these are off too, that
    process still asks 169.254.169.254 and the name metadata.google.internal in whose cloud it is. Ray has no setting
    for it (2.60), so its function is replaced while the cluster starts; where there is no such function, it is not.
    """
    from ray._private import services

    start = getattr(services, "start_api_server", None)
    if start is None:
        yield
        return
    services.start_api_server = lambda *_, **__: ("", None)
    try:
        yield
    finally:
        services.start_api_server = start


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Sets what keeps a cluster that is started inside to this machine and this user, and takes it back afterwards."""
    wanted = _ALONE | ({} if os.environ.get("RAY_AUTH_TOKEN_PATH") else {"RAY_AUTH_TOKEN": secrets.token_hex(32)})
    set_here = {name: value for name, value in wanted.items() if not os.environ.get(name)}
    os.environ.update(set_here)
    constants = sys.modules.get("ray._private.ray_constants")  # there where ray was imported before
    several = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    try:
        if several is not None:
            constants.ENABLE_RAY_CLUSTER = False  # type: ignore[union-attr]
        _reread_tokens()
        yield
    finally:
        if several is not None:
            constants.ENABLE_RAY_CLUSTER = several  # type: ignore[union-attr]
        for name in set_here:
            os.environ.pop(name, None)
        _reread_tokens()


def _reread_tokens() -> None:
    """Has Ray, where it was imported before, forget which token it asks for; older versions have none."""
    if "ray" not in sys.modules:
        return
    with contextlib.suppress(ImportError, AttributeError):
        raylet: Any = import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def _silence_logs() -> None:
    """Keeps Ray Data's bars and notes off the terminal; they stay in Ray's own logs."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def look(address: str | None) -> None:
    """Checks whether Ray is there and a cluster answers, in a process of its own: Ray itself waits for a minute.

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
        output = error.stderr or ""  # bytes after a time-out, whatever was asked for
        output = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
        if "InvalidAuthToken" in output:
            raise ConfigError(
                f"The Ray cluster at {address} asks for a token.",
                expected="the token of its head, as Ray's page on token authentication says",
                fix="Set RAY_AUTH_MODE=token for this command, and give this machine the same token as the head.",
            ) from error
        if isinstance(error, subprocess.TimeoutExpired):
            raise _silent(address, f"no answer of a Ray cluster within {ANSWER:.0f} s") from error
        raise _silent(address, (output.strip().splitlines() or ["Ray ended without a word"])[-1]) from error


def _silent(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"No Ray cluster answers at {address}: {why}.",
        expected="the head of a running cluster, with the same versions of Python and Ray, and this machine in it",
        fix="`ray start --head` there and `ray start --address=HOST:PORT` here; without --address one is started here.",
    )
