"""How a box of an average SOT23 picture finds its place on a unit that is shifted, turned or of another family."""

from __future__ import annotations

from knowngood.data.tape.scene import Box, Lead, Scene

_LEAD_MIDDLES = {"upper left": (62.0, 78.0), "upper right": (200.0, 78.0), "lower": (134.5, 207.0)}
_LEAD_SIZE = (31.0, 50.0)


def follow(box: Box, middle: tuple[float, float], scale: tuple[float, float], scene: Scene) -> Box:
    """Moves a box's middle with the part; its width and height stay upright and are scaled.

    Args:
        box: In an average SOT23 picture.
        middle: Of the body in that picture.
        scale: Of the family against SOT23, across and down.
        scene: Gives the part's frame.

    Returns:
        The box in the scene's picture; it may pass the border.
    """
    x0, y0, x1, y1 = box
    centre = ((x0 + x1) / 2 - middle[0]) * scale[0], ((y0 + y1) / 2 - middle[1]) * scale[1]
    ((x, y),) = scene.part.to_image([centre])
    half_w, half_h = (x1 - x0) / 2 * scale[0], (y1 - y0) / 2 * scale[1]
    return float(x - half_w), float(y - half_h), float(x + half_w), float(y + half_h)


def on_lead(box: Box, scene: Scene) -> tuple[Box, Lead]:
    """Moves a box to the lead that it belongs to, keeping its place against that lead.

    Args:
        box: In an average SOT23 picture.
        scene: Gives the leads.

    Returns:
        The box in the scene's picture, and the lead.
    """
    x0, y0, x1, y1 = box
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    name = "lower" if y > 150 else "upper right" if x > 130 else "upper left"
    lead = next((lead for lead in scene.leads if lead.name == name), None)
    lead = lead or next(lead for lead in scene.leads if lead.name == name.split(maxsplit=1)[0])
    a0, b0, a1, b1 = lead.box
    scale = (a1 - a0) / _LEAD_SIZE[0], (b1 - b0) / _LEAD_SIZE[1]
    from_lead = (x - _LEAD_MIDDLES[name][0]) * scale[0], (y - _LEAD_MIDDLES[name][1]) * scale[1]
    ((cx, cy),) = scene.part.to_image([((a0 + a1) / 2 + from_lead[0], (b0 + b1) / 2 + from_lead[1])])
    half_w, half_h = (x1 - x0) / 2 * scale[0], (y1 - y0) / 2 * scale[1]
    return (float(cx - half_w), float(cy - half_h), float(cx + half_w), float(cy + half_h)), lead
