"""Charts as SVG, drawn on the server: shapes and classes here, colours in ``static/app.css``.

Every chart has a text alternative; the pages also show its numbers in a table.
"""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

CELL = 8  # px
STRIP_HEIGHT = 16
WIDTH = 480
HEIGHT = 120
BOTTOM = 14  # room for tick labels
HEAT = (0.25, 0.5, 1.0, 2.0)  # shares of the bound that a heat class begins at


def strip(values: Sequence[float | None], *, bound: float, label: str) -> Markup:
    """Draw one cell per window, coloured by how close its value comes to ``bound``; None stays empty."""
    cells = Markup("").join(
        _cell(index, value, bound) for index, value in enumerate(values) if value is not None
    )
    width = max(1, len(values)) * CELL
    return _svg(width, STRIP_HEIGHT, label, cells, stretch=True)


def _cell(index: int, value: float, bound: float) -> Markup:
    share = value / bound if bound > 0 else math.inf
    heat = sum(share >= edge for edge in HEAT)
    return Markup('<rect class="h{}" x="{}" width="{}" height="{}"><title>{}</title></rect>').format(
        heat, index * CELL, CELL - 1, STRIP_HEIGHT, f"{value:.3g}"
    )


def histogram(shares: Sequence[float], reference: Sequence[float], *, label: str) -> Markup:
    """Draw the shares of a window over those of its baseline, bin by bin."""
    peak = max((*shares, *reference, 1e-9))
    step = WIDTH / max(1, len(shares))
    bars = Markup("").join(
        _bar("reference", index * step, step, share / peak) for index, share in enumerate(reference)
    )
    bars += Markup("").join(
        _bar("mark", index * step + step * 0.25, step * 0.5, share / peak)
        for index, share in enumerate(shares)
    )
    return _svg(WIDTH, HEIGHT, label, bars + _axis())


def _bar(kind: str, x: float, width: float, share: float) -> Markup:
    height = share * (HEIGHT - BOTTOM)
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        kind, x, HEIGHT - BOTTOM - height, max(1.0, width - 1), height
    )


def lines(
    series: Mapping[str, Sequence[float | None]], *, label: str, bound: float | None = None, digits: int = 3
) -> Markup:
    """Draw one line per series over a common axis; the second and later ones are drawn as controls."""
    held = [
        value for values in series.values() for value in values if value is not None and math.isfinite(value)
    ]
    if not held:
        return Markup("")
    low, high = min(held), max((*held, *(() if bound is None else (bound,))))
    span = (high - low) or 1.0
    paths = Markup("").join(
        _path("trend" if index == 0 else "trend control", values, low, span)
        for index, values in enumerate(series.values())
    )
    if bound is not None:
        y = _y(bound, low, span)
        paths += Markup('<line class="bound" x1="0" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(WIDTH, y, y)
    ticks = Markup('<text x="2" y="10">{}</text><text x="2" y="{}">{}</text>').format(
        f"{high:.{digits}g}", HEIGHT - 2, f"{low:.{digits}g}"
    )
    return _svg(WIDTH, HEIGHT, label, _axis() + paths + ticks)


def _y(value: float, low: float, span: float) -> float:
    return (HEIGHT - BOTTOM) * (1 - (value - low) / span)


def _path(kind: str, values: Sequence[float | None], low: float, span: float) -> Markup:
    step = WIDTH / max(1, len(values) - 1)
    commands: list[str] = []
    pen_up = True
    for index, value in enumerate(values):
        if value is None or not math.isfinite(value):
            pen_up = True
            continue
        commands.append(f"{'M' if pen_up else 'L'}{index * step:.1f} {_y(value, low, span):.1f}")
        pen_up = False
    return Markup('<path class="{}" d="{}"/>').format(kind, "".join(commands))


def share_bar(share: float, *, label: str) -> Markup:
    """Draw a share between 0 and 1 as a filled bar."""
    filled = max(0.0, min(1.0, share)) * 100
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="h0" width="100" height="8"/><rect class="mark" width="{:.1f}" height="8"/></svg>'
    ).format(label, filled)


def _axis() -> Markup:
    y = HEIGHT - BOTTOM
    return Markup('<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/>').format(WIDTH, y, y)


def _svg(width: float, height: float, label: str, content: Markup, *, stretch: bool = False) -> Markup:
    kind = Markup('chart strip" preserveAspectRatio="none') if stretch else Markup("chart")
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, width, height, label, content
    )
