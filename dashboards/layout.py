"""Places panels on Grafana's grid: left to right, line by line, each section below the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dashboards.panel import GRID_WIDTH, Panel, Placed, Section


def place(sections: Sequence[Section]) -> Iterator[tuple[Section | Panel, Placed]]:
    """Yield every section's heading and panel with its number (from 1) and place.

    Raises ValueError if a panel is wider than the grid.
    """
    number, y = 0, 0
    for section in sections:
        number += 1
        yield section, Placed(number, 0, y)
        x, y, line_height = 0, y + 1, 0
        for panel in section.panels:
            if not 0 < panel.width <= GRID_WIDTH:
                raise ValueError(f"{panel.title}: the width must be 1 to {GRID_WIDTH}")
            if x + panel.width > GRID_WIDTH:
                x, y, line_height = 0, y + line_height, 0
            number += 1
            yield panel, Placed(number, x, y)
            x += panel.width
            line_height = max(line_height, panel.height)
        y += line_height
