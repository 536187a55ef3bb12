"""The layers alone: streams, frames, glyphs, textures, outlines, optics, places."""

from __future__ import annotations

import numpy as np
import pytest

from knowngood.lookalike import lots
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.lots import Streams, lot_of, machine_of, stream
from knowngood.lookalike.marking import HEIGHT, WIDTH, characters, glyph
from knowngood.lookalike.scene import MIXTURES, Frame, sample_box
from knowngood.lookalike.shapes import blob, contrast, curve, pixels_of, wandering, wedge
from knowngood.lookalike.surface import expose, field, grain, read_out

CONFIG = TapeConfig()


def test_streams_are_repeatable_and_apart():
    first = stream(0, "train", 1, "body").random(4)
    assert np.array_equal(first, stream(0, "train", 1, "body").random(4))
    assert np.array_equal(first, Streams(0, "train", 1).of("body").random(4))
    others = [stream(1, "train", 1, "body"), stream(0, "test", 1, "body"), stream(0, "train", 2, "body"),
              stream(0, "train", 1, "leads")]  # fmt: skip
    assert all(not np.array_equal(first, other.random(4)) for other in others)


def test_a_frame_goes_there_and_back():
    frame = Frame(40.0, 30.0, 0.3, 90, 70)
    u, v = frame.grid
    points = frame.to_image(np.stack([u, v], axis=-1))
    ys, xs = np.mgrid[0:70, 0:90]
    assert np.allclose(points[..., 0], xs + 0.5, atol=1e-3)
    assert np.allclose(points[..., 1], ys + 0.5, atol=1e-3)


def test_every_character_of_every_code_has_a_glyph():
    written = set("".join(lots.DIODE_CODES + lots.SOT_CODES + lots.DATE_CODES) + "W876")
    assert written <= set(characters())
    for character in characters():
        points = np.concatenate(glyph(character))
        assert (points > -0.6).all()
        assert (points <= [WIDTH + 0.3, HEIGHT + 0.6]).all()


def test_fields_have_unit_variance_and_grains_their_size():
    rng = np.random.default_rng(0)
    assert grain(rng, 200, 200).std() == pytest.approx(1, abs=0.05)
    soft = field(rng, 200, 200, 10, 10)
    assert soft.shape == (200, 200)
    assert soft.dtype == np.float32
    assert np.abs(np.diff(soft, axis=0)).mean() < 0.15 * np.abs(soft).mean()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(9, 30), (60, 14), (40, 40)])
def test_outlines_fill_their_box(seed, size):
    rng = np.random.default_rng(seed)
    made = [blob(rng, *size, 0.4), wedge(rng, *size, (1, -1)), wedge(rng, *size, (0, 1)), wedge(rng, *size, (-1, 0)),
            curve(wandering(rng, 12, 0.6), *size, 2.0)]  # fmt: skip
    for cover in made:
        assert cover.shape == size
        assert cover.min() >= 0
        assert cover.max() <= 1
        for side in (cover[:3], cover[-3:], cover[:, :3], cover[:, -3:]):
            assert side.max() > 0.05


def test_boxes_stay_inside_the_picture():
    assert pixels_of((-9, -9, 2, 400), 50, 40) == (slice(0, 50), slice(0, 3))
    assert pixels_of((60, 70, 61, 71), 50, 40) == (slice(47, 50), slice(37, 40))


@pytest.mark.parametrize("kind", MIXTURES)
def test_boxes_have_a_size(kind):
    rng = np.random.default_rng(1)
    boxes = np.array([sample_box(kind, rng) for _ in range(300)])
    assert (boxes[:, 2] - boxes[:, 0] > 3).all()
    assert (boxes[:, 3] - boxes[:, 1] > 3).all()
    assert sum(row[0] for row in MIXTURES[kind]) == pytest.approx(1, abs=0.02)


def test_contrast_rises_from_faint_to_glaring():
    assert contrast(0, 4, 100) == pytest.approx(4)
    assert contrast(1, 4, 100) == pytest.approx(100)
    assert contrast(0.5, 4, 100) == pytest.approx(20)


def test_the_camera_blurs_saturates_and_adds_its_noise():
    machine = machine_of(1, CONFIG, 0)
    scene = np.full((120, 120), 50, np.float32)
    scene[50:70, 50:70] = 400
    exposed = expose(scene, np.ones_like(scene), machine)
    assert exposed[60, 48] > 51  # soft edge and bloom
    rng = np.random.default_rng(0)
    picture = read_out(exposed, rng.standard_normal(scene.shape, np.float32), machine)
    assert (picture[54:66, 54:66] >= 250).all()
    assert picture[:30].std() == pytest.approx(machine.noise, rel=0.12)


def test_lots_and_machines_are_repeatable_and_drift_changes_them():
    assert lot_of(3, "sod", CONFIG, 0) == lot_of(3, "sod", CONFIG, 0)
    assert lot_of(3, "sod", CONFIG, 0) != lot_of(4, "sod", CONFIG, 0)
    assert machine_of(2, CONFIG, 0) != machine_of(2, CONFIG, 1)
    dimmer = [lot_of(n, "sod", CONFIG, 1).brightness / lot_of(n, "sod", CONFIG, 0).brightness for n in range(30)]
    assert np.mean(dimmer) < 0.92
