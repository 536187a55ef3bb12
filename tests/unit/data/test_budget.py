"""All decoding of a process shares one budget of memory; who needs more than all of it is told so."""

from __future__ import annotations

import threading
import time

import pytest

from knowngood.data.budget import DEFAULT_MEMORY, Room, decode_memory
from knowngood.errors import ConfigError, ImageError


@pytest.mark.parametrize(
    ("text", "amount"), [("", DEFAULT_MEMORY), ("2GiB", 2 << 30), ("512 mb", 512 << 20), ("1.5G", 3 << 29), ("77", 77)]
)
def test_amounts(monkeypatch: pytest.MonkeyPatch, text: str, amount: int) -> None:
    monkeypatch.setenv("KNOWNGOOD_DECODE_MEMORY", text)
    assert decode_memory() == amount


@pytest.mark.parametrize("text", ["much", "-1", "0", "1 GB or so"])
def test_what_is_no_amount(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KNOWNGOOD_DECODE_MEMORY", text)
    with pytest.raises(ConfigError, match="KNOWNGOOD_DECODE_MEMORY"):
        decode_memory()


def test_never_more_at_once_and_nobody_is_overtaken_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWNGOOD_DECODE_MEMORY", "100")
    room, most, order = Room(), [0], []
    lock = threading.Lock()

    def decode(need: int) -> None:
        with room.holding(need, need, str(need)):
            with lock:
                most[0] = max(most[0], room.used)
                order.append(need)
            time.sleep(0.002)

    threads = [threading.Thread(target=decode, args=(need,)) for need in (*[30] * 20, 100, *[7] * 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 100
    assert room.used == 0
    assert order.count(100) == 1
    assert len(order) == 41


def test_more_than_all_is_refused_and_a_wish_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNOWNGOOD_DECODE_MEMORY", "100")
    room = Room()
    with (
        pytest.raises(ImageError, match=r"(?s)too large to decode.*KNOWNGOOD_DECODE_MEMORY"),
        room.holding(101, 101, "x"),
    ):
        pass
    with room.holding(50, 10_000, "x"):
        assert room.used == 100
    with pytest.raises(ZeroDivisionError), room.holding(60, 60, "x"):
        raise ZeroDivisionError
    assert room.used == 0
