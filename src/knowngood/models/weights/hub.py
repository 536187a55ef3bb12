"""Is the model hub worth asking? Its own client tries for a minute before it gives up."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

PATIENCE = 5.0  # seconds


def hub_answers() -> bool:
    """Says whether the hub's address can be reached, within seconds; where a proxy stands between, that it may be."""
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
