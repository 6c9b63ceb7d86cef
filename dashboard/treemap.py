"""A map of a directory: rectangles as large as what they stand for, as square as can be."""

from collections.abc import Sequence
from dataclasses import dataclass

# How wide the map is for its height; the style sheet gives it this shape.
WIDTH, HEIGHT = 1000.0, 420.0
# Smaller ones could not be hit, nor told apart.
SMALLEST_PART = 0.002


@dataclass(frozen=True)
class Tile:
    """Which value, by its place in the list, is where; in percent of the map."""

    index: int
    x: float
    y: float
    width: float
    height: float

    @property
    def has_room(self) -> bool:
        """Whether a label fits."""
        return self.width > 7 and self.height > 9


def tiles(values: Sequence[int]) -> list[Tile]:
    """The map of `values`, which fall; those too small to see are left out.

    Source: M. Bruls, K. Huizing and J. J. van Wijk, "Squarified Treemaps", Data Visualization
    2000, section 3.
    """
    total = sum(values)
    if total <= 0:
        return []
    areas = [
        (index, value * WIDTH * HEIGHT / total)
        for index, value in enumerate(values)
        if value >= SMALLEST_PART * total
    ]
    # What was left out leaves no hole.
    scale = WIDTH * HEIGHT / sum(area for _, area in areas)
    left = [(index, area * scale) for index, area in areas]
    found: list[Tile] = []
    x, y, width, height = 0.0, 0.0, WIDTH, HEIGHT
    while left:
        side = min(width, height)
        row: list[tuple[int, float]] = []
        while left and (not row or _worst([*row, left[0]], side) <= _worst(row, side)):
            row.append(left.pop(0))
        depth = sum(area for _, area in row) / side
        along = 0.0
        for index, area in row:
            length = area / depth
            if width >= height:
                found.append(_tile(index, (x, y + along, depth, length)))
            else:
                found.append(_tile(index, (x + along, y, length, depth)))
            along += length
        if width >= height:
            x, width = x + depth, width - depth
        else:
            y, height = y + depth, height - depth
    return found


def _worst(row: list[tuple[int, float]], side: float) -> float:
    """How far from a square the worst rectangle of a row along `side` is."""
    total = sum(area for _, area in row)
    areas = [area for _, area in row]
    return max(side**2 * max(areas) / total**2, total**2 / (side**2 * min(areas)))


def _tile(index: int, box: tuple[float, float, float, float]) -> Tile:
    x, y, width, height = box
    return Tile(
        index,
        round(100 * x / WIDTH, 3),
        round(100 * y / HEIGHT, 3),
        round(100 * width / WIDTH, 3),
        round(100 * height / HEIGHT, 3),
    )
