"""Charts as SVG, drawn on the server: shapes and classes here, colours in ``static/app.css``.

Every chart has a text alternative; the pages also show its numbers in a table. What a colour says, a shape or
a word says too.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from markupsafe import Markup

CELL = 8  # px
STRIP_HEIGHT = 16
WIDTH = 420
HEIGHT = 130
BOTTOM = 16  # room for tick labels
ROW = 18  # of a chart of named bars
NAME_WIDTH, SHARE_WIDTH = 96, 92
MAX_NAME = 15  # characters of a name that fit beside its bar
HEAT = (0.25, 0.5, 1.0, 2.0)  # shares of the bound that a heat class begins at
CELL_HEIGHTS = (
    3,
    5,
    8,
    12,
    STRIP_HEIGHT,
)  # by heat class: what is outside is taller than the line at the bound
BOUND_HEIGHT = 10
TICKS = (0.1, 0.3, 0.5, 0.7, 0.9)  # which of the edges of a histogram are named
SPAN, SPAN_HEIGHT = 150, 18  # of an interval in a cell of a table
SLOT = 46  # px of a bin that stands apart


def heat(share: float) -> int:
    """Return the heat class, 0..4, of a share of a bound; 3 and 4 are beyond it."""
    return sum(share >= edge for edge in HEAT)


def strip(values: Sequence[float | None], *, bound: float, label: str) -> Markup:
    """Draw one bar per window by how close its value comes to ``bound``, a line; None stays empty."""
    shapes: dict[int, list[str]] = {}
    for index, value in enumerate(values):
        if value is not None:
            height = CELL_HEIGHTS[level := heat(value / bound if bound > 0 else math.inf)]
            shapes.setdefault(level, []).append(
                f"M{index * CELL} {STRIP_HEIGHT}v-{height}h{CELL - 1}v{height}z"
            )
    width = max(1, len(values)) * CELL
    line = Markup('<path class="axis" d="M0 {}h{}"/>').format(STRIP_HEIGHT - BOUND_HEIGHT, width)
    cells = _join(
        Markup('<path class="h{}" d="{}"/>').format(level, "".join(paths))
        for level, paths in sorted(shapes.items())
    )
    return _svg(width, STRIP_HEIGHT, label, line + cells, stretch=True)


def histogram(
    shares: Sequence[float],
    reference: Sequence[float],
    *,
    label: str,
    edges: Sequence[float] = (),
    names: Sequence[str] = (),
) -> Markup:
    """Draw the shares of a window as bars under the outline of its baseline, bin by bin.

    Args:
        shares: Of the rows, by bin.
        reference: The baseline's, by bin.
        label: What the chart says, in words.
        edges: Between the ordinary bins; some are written below.
        names: Of the last bins, which stand apart from the ordinary ones.
    """
    peak = max((*shares, *reference, 1e-9))
    ordinary = len(shares) - len(names)
    step = (WIDTH - SLOT * len(names)) / max(1, ordinary)
    lefts = [step * min(at, ordinary) + SLOT * max(0, at - ordinary + 0.5) for at in range(len(shares))]
    heights = [share / peak * (HEIGHT - BOTTOM) for share in shares]
    base = HEIGHT - BOTTOM
    bars = "".join(
        f"M{left + step * 0.1:.1f} {base}v-{height:.1f}h{step * 0.8:.1f}v{height:.1f}z"
        for left, height in zip(lefts, heights, strict=True)
        if height > 0
    )
    outline = _outline([(left, share / peak) for left, share in zip(lefts, reference, strict=True)], step)
    words = _join(
        _text(_edge_x(at, lefts, step), HEIGHT - 3, f"{edges[at]:.3g}", anchor="middle")
        for at in sorted({min(len(edges) - 1, round(tick * len(edges))) for tick in TICKS if edges})
    )
    words += _join(
        _text(left + step / 2, HEIGHT - 3, name, anchor="middle")
        for left, name in zip(lefts[ordinary:-1], names[:-1], strict=True)
    )
    if names:  # the last one has no room to its right
        words += _text(WIDTH, HEIGHT - 3, names[-1], anchor="end")
    shapes = Markup('<path class="mark" d="{}"/><path class="outline" d="{}"/>').format(bars, outline)
    return _svg(WIDTH, HEIGHT, label, shapes + _axis() + words)


def _outline(bins: Sequence[tuple[float, float]], step: float) -> str:
    """Return the path along the tops of bins, broken where they stand apart."""
    base, path, end = HEIGHT - BOTTOM, [], None
    for left, share in bins:
        top = base * (1 - share)
        path.append(f"L{left:.1f} {top:.1f}" if end == left else f"M{left:.1f} {base}V{top:.1f}")
        path.append(f"h{step:.1f}")
        end = left + step
    return "".join(path)


def _edge_x(at: int, lefts: Sequence[float], step: float) -> float:
    return min(WIDTH - 14.0, max(14.0, lefts[at] + step))


def bars(rows: Sequence[tuple[str, float, float | None]], *, label: str) -> Markup:
    """Draw named shares below each other: each row is a name, its share now, and that in the baseline."""
    peak = max((share for _, *shares in rows for share in shares if share is not None), default=0.0) or 1.0
    width = WIDTH - NAME_WIDTH - SHARE_WIDTH
    drawn: list[Markup] = []
    for index, (name, share, reference) in enumerate(rows):
        y = index * ROW
        short = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}\N{HORIZONTAL ELLIPSIS}"
        drawn += [
            _text(NAME_WIDTH - 8, y + 13, short, anchor="end", kind="name"),
            _rectangle("mark", NAME_WIDTH, y + 5, share / peak * width, ROW - 9),
        ]
        words = f"{share:.1%}"
        if reference is not None:
            drawn.append(_rectangle("outline", NAME_WIDTH, y + 2, reference / peak * width, ROW - 3))
            words += f" \N{MIDDLE DOT} {reference:.1%}"
        drawn.append(_text(WIDTH, y + 13, words, anchor="end"))
    return _svg(WIDTH, max(1, len(rows)) * ROW, label, _join(drawn))


def control(
    moved: Sequence[float | None],
    allowed: Sequence[float | None],
    *,
    label: str,
    unit: str,
    since: int | None = None,
    ends: tuple[str, str] = ("", ""),
) -> Markup:
    """Draw how far something is from its own level, over the band of what is normal for it.

    Args:
        moved: Distance by window, oldest first; None where it is not known.
        allowed: Half the width of the band, by window.
        label: What the chart says, in words.
        unit: Of ``moved``, written at the left.
        since: Window in which an alarm began.
        ends: What is written below the first and the last window.
    """
    held = [value for value in (*moved, *allowed, *(-half for half in allowed if half)) if value is not None]
    if not held:
        return Markup("")
    low, high = min(held), max(held)
    span = (high - low) or 1.0
    step = WIDTH / max(1, len(moved) - 1)
    out = [
        (index * step, _y(value, low, span))
        for index, (value, half) in enumerate(zip(moved, allowed, strict=True))
        if value is not None and half is not None and abs(value) > half
    ]
    drawn = _band(allowed, low, span, step) + _path("trend", moved, low, span)
    drawn += Markup('<path class="zero" d="M0 {0:.1f}h{1}"/>').format(_y(0.0, low, span), WIDTH)
    drawn += _join(
        Markup('<circle class="out" cx="{:.1f}" cy="{:.1f}" r="2.6"/>').format(x, y) for x, y in out
    )
    if since is not None:
        drawn += Markup('<path class="since" d="M{:.1f} 0V{}"/>').format(since * step, HEIGHT - BOTTOM)
    words = _text(2, 10, f"{high:+.2g} {unit}") + _text(2, HEIGHT - BOTTOM - 3, f"{low:+.2g}")
    words += _text(2, HEIGHT - 3, ends[0]) + _text(WIDTH - 2, HEIGHT - 3, ends[1], anchor="end")
    return _svg(WIDTH, HEIGHT, label, drawn + _axis() + words)


def _band(allowed: Sequence[float | None], low: float, span: float, step: float) -> Markup:
    """Return the area between both sides of the band; a window alone is as wide as one."""
    paths = []
    for run in _runs(allowed):
        (first, at_left), (last, at_right) = run[0], run[-1]
        corners = [
            (first - 0.5, at_left),
            *run,
            (last + 0.5, at_right),
            (last + 0.5, -at_right),
            *((at, -half) for at, half in reversed(run)),
            (first - 0.5, -at_left),
        ]
        paths.append(
            "M" + "L".join(f"{at * step:.1f} {_y(half, low, span):.1f}" for at, half in corners) + "z"
        )
    return Markup('<path class="band" d="{}"/>').format("".join(paths))


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Return what is known, cut where something is not."""
    known = [(index, value) for index, value in enumerate(values) if value is not None]
    runs: list[list[tuple[int, float]]] = [[entry] for entry in known[:1]]
    for before, entry in pairwise(known):
        if entry[0] == before[0] + 1:
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs


def climb(
    values: Sequence[float], bounds: Sequence[float], *, label: str, ends: tuple[str, str] = ("", "")
) -> Markup:
    """Draw values on their way to what they have to reach, of equally many points, oldest first."""
    if not values:
        return Markup("")
    low, high = min(*values, *bounds), max(*values, *bounds)
    span = (high - low) or 1.0
    drawn = _path("trend", values, low, span) + _path("bound", bounds, low, span)
    words = _text(2, 10, f"{high:.3g}") + _text(2, HEIGHT - BOTTOM - 3, f"{low:.3g}")
    words += _text(2, HEIGHT - 3, ends[0]) + _text(WIDTH - 2, HEIGHT - 3, ends[1], anchor="end")
    return _svg(WIDTH, HEIGHT, label, drawn + _axis() + words)


def intervals(
    points: Sequence[tuple[float, float, float] | None],
    *,
    label: str,
    bound: float | None = None,
    ends: tuple[str, str] = ("", ""),
) -> Markup:
    """Draw values with their intervals over time.

    Args:
        points: Value, low and high end, oldest first; None where nothing is known.
        label: What the chart says, in words.
        bound: A value to compare with, drawn as a line.
        ends: What is written below the first and the last point.
    """
    held = [value for point in points if point is not None for value in point]
    if not held:
        return Markup("")
    known = held if bound is None else [*held, bound]
    low, span = min(known), (max(known) - min(known)) or 1.0
    step = WIDTH / max(1, len(points))
    drawn = []
    for index, point in enumerate(points):
        if point is not None:
            x, (value, *sides) = (index + 0.5) * step, point
            bottom, top = (_y(side, low, span) for side in sides)
            drawn += [
                Markup('<path class="whisker" d="M{:.1f} {:.1f}V{:.1f}"/>').format(x, bottom, top),
                Markup('<circle class="mark" cx="{:.1f}" cy="{:.1f}" r="2.6"/>').format(
                    x, _y(value, low, span)
                ),
            ]
    if bound is not None:
        drawn.append(Markup('<path class="bound" d="M0 {:.1f}h{}"/>').format(_y(bound, low, span), WIDTH))
    words = _text(2, 10, f"{low + span:.3g}") + _text(2, HEIGHT - BOTTOM - 3, f"{low:.3g}")
    words += _text(2, HEIGHT - 3, ends[0]) + _text(WIDTH - 2, HEIGHT - 3, ends[1], anchor="end")
    return _svg(WIDTH, HEIGHT, label, _join(drawn) + _axis() + words)


def difference(
    effect: float,
    ends: tuple[float, float],
    tolerated: tuple[float | None, float | None],
    *,
    label: str,
) -> Markup:
    """Draw a difference with its interval over the band that is tolerated.

    Args:
        effect: The difference.
        ends: Of its interval.
        tolerated: From where to where; None where every value is.
        label: What the chart says, in words.
    """
    known = [abs(side) for side in tolerated if side is not None] or [abs(effect) or 1.0]
    reach = min(max(*map(abs, ends), abs(effect), 1.6 * max(known)), 4 * max(known))

    def x(value: float) -> float:
        return (max(-1.0, min(1.0, value / reach)) + 1) / 2 * SPAN

    low, high = (
        x(side) if side is not None else edge for side, edge in zip(tolerated, (0.0, SPAN), strict=True)
    )
    left, right = x(ends[0]), x(ends[1])
    drawn = _rectangle("band", low, 2, high - low, SPAN_HEIGHT - 4)
    drawn += Markup('<path class="zero" d="M{:.1f} 0V{}"/>').format(x(0.0), SPAN_HEIGHT)
    drawn += Markup('<path class="whisker" d="M{:.1f} {}H{:.1f}"/>').format(left, SPAN_HEIGHT / 2, right)
    # An end without a stop lies beyond the chart.
    stops = [x(end) for end in ends if abs(end) <= reach]
    drawn += _join(
        Markup('<path class="whisker" d="M{:.1f} {}v{}"/>').format(stop, SPAN_HEIGHT / 2 - 4, 8)
        for stop in stops
    )
    drawn += Markup('<circle class="mark" cx="{:.1f}" cy="{}" r="3"/>').format(x(effect), SPAN_HEIGHT / 2)
    return Markup('<svg class="span" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        SPAN, SPAN_HEIGHT, label, drawn
    )


def budget(parts: Sequence[tuple[str, float, float]], *, label: str) -> Markup:
    """Draw a budget divided among gates: each part is a name, its share of the budget, and how much is spent.

    The names stand beside it, in a table: the chart is as narrow as its smallest part.
    """
    drawn, left = [], 0.0
    for _, share, spent in parts:
        width = share * WIDTH
        drawn.append(_rectangle("h0", left, 0, max(width - 1, 0.5), 10))
        level = "h4" if spent >= 1 else "mark"
        drawn.append(_rectangle(level, left, 0, max(width - 1, 0.5) * min(max(spent, 0.0), 1.0), 10))
        left += width
    return Markup(
        '<svg class="budget" viewBox="0 0 {} 10" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg>"
    ).format(WIDTH, label, _join(drawn))


def share_bar(share: float, *, label: str) -> Markup:
    """Draw a share between 0 and 1 as a filled bar."""
    filled = max(0.0, min(1.0, share)) * 100
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="h0" width="100" height="8"/><rect class="mark" width="{:.1f}" height="8"/></svg>'
    ).format(label, filled)


def _y(value: float, low: float, span: float) -> float:
    return (HEIGHT - BOTTOM) * (1 - (value - low) / span)


def _path(kind: str, values: Sequence[float | None], low: float, span: float) -> Markup:
    step = WIDTH / max(1, len(values) - 1)
    commands = "".join(
        f"{'M' if place == 0 else 'L'}{index * step:.1f} {_y(value, low, span):.1f}"
        for run in _runs(values)
        for place, (index, value) in enumerate(run)
    )
    return Markup('<path class="{}" d="{}"/>').format(kind, commands)


def _rectangle(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        kind, x, y, width, height
    )


def _text(x: float, y: float, words: str, *, anchor: str = "", kind: str = "") -> Markup:
    extra = Markup(' text-anchor="{}"').format(anchor) if anchor else Markup("")
    extra += Markup(' class="{}"').format(kind) if kind else Markup("")
    return (
        Markup('<text x="{:.1f}" y="{:.1f}"{}>{}</text>').format(x, y, extra, words) if words else Markup("")
    )


def _axis() -> Markup:
    return Markup('<path class="axis" d="M0 {}h{}"/>').format(HEIGHT - BOTTOM, WIDTH)


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _svg(width: float, height: float, label: str, content: Markup, *, stretch: bool = False) -> Markup:
    kind = Markup('chart strip" preserveAspectRatio="none') if stretch else Markup("chart")
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        kind, width, height, label, content
    )
