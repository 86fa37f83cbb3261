"""``Geometry``: the pixels of a calorimeter image, and how finer ones are summed to coarser ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np

from qgen.data.binning import Binning

__all__ = ["Axis", "Geometry", "group_edges"]

Axis = Literal["layer", "x", "y", "voxel"]
_AXES: tuple[Axis, ...] = ("layer", "x", "y", "voxel")


def group_edges(cells: int, groups: int) -> tuple[int, ...]:
    """Boundaries of ``groups`` neighbouring groups of ``cells`` cells, equal where ``groups`` divides ``cells``.

    Otherwise the sizes differ by at most one: boundary ``i`` is ``i * cells / groups``, rounded half up.

    Raises:
        ValueError: more groups than cells, or none.

    >>> group_edges(24, 8), group_edges(25, 8)
    ((0, 3, 6, 9, 12, 15, 18, 21, 24), (0, 3, 6, 9, 13, 16, 19, 22, 25))
    """
    if not 1 <= groups <= cells:
        raise ValueError(f"{cells} cells cannot be summed to {groups} pixels; 1 to {cells} are possible")
    return tuple((2 * i * cells + groups) // (2 * groups) for i in range(groups + 1))


@dataclass(frozen=True)
class Geometry:
    """Axes of an image, and the boundaries of its pixels along each.

    Args:
        axes: names, in the order of the image's dimensions: ``layer`` (depth), ``x``, ``y``; or ``voxel`` alone, for
            a list of cells without stated positions.
        edges: for each axis the increasing boundaries of its pixels, one more than there are pixels.
        units: the unit of each axis' boundaries, ``layers``, ``mm`` or ``pads``.
        binning: of a list of voxels, where they lie if that is known.

    Raises:
        ValueError: an axis is unknown or named twice, its boundaries do not increase, or a binning does not fit.

    >>> Geometry.cells(layer=25, x=5, y=5).shape
    (25, 5, 5)
    """

    axes: tuple[Axis, ...]
    edges: tuple[tuple[float, ...], ...]
    units: tuple[str, ...]
    binning: Binning | None = None

    def __post_init__(self) -> None:
        if not self.axes or len(set(self.axes)) < len(self.axes) or not set(self.axes) <= set(_AXES):
            raise ValueError(f"axes are {list(self.axes)}; allowed are different ones of {', '.join(_AXES)}")
        if len(self.edges) != len(self.axes) or len(self.units) != len(self.axes):
            raise ValueError(f"axes are {list(self.axes)}; edges and units must be given for each of them")
        for axis, edges in zip(self.axes, self.edges, strict=True):
            if len(edges) < 2 or not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
                raise ValueError(f"edges of axis {axis!r} must be at least two increasing numbers")
        if self.binning is not None and (self.axes != ("voxel",) or self.binning.n_voxels != self.n_pixels):
            raise ValueError(
                f"a binning of {self.binning.n_voxels} voxels does not fit {self.n_pixels} pixels of axes "
                f"{list(self.axes)}"
            )

    @classmethod
    def cells(cls, **counts: int) -> Self:
        """A regular grid with this number of cells along each axis, counted in layers and pads.

        Raises:
            ValueError: an unknown axis, or a number below 1.
        """
        for axis, count in counts.items():
            if count < 1:
                raise ValueError(f"{count} cells along axis {axis!r}; at least 1 is needed")
        axes = tuple(axis for name in counts for axis in _AXES if axis == name)
        if len(axes) != len(counts):
            raise ValueError(f"axes are {list(counts)}; allowed are {', '.join(_AXES)}")
        units = {"layer": "layers", "x": "pads", "y": "pads", "voxel": "voxels"}
        edges = tuple(tuple(float(i) for i in range(count + 1)) for count in counts.values())
        return cls(axes, edges, tuple(units[axis] for axis in axes))

    @classmethod
    def of_binning(cls, binning: Binning) -> Self:
        """A list of voxels with their positions."""
        edges = tuple(float(i) for i in range(binning.n_voxels + 1))
        return cls(("voxel",), (edges,), ("voxels",), binning)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels along each axis."""
        return tuple(len(edges) - 1 for edges in self.edges)

    @property
    def n_pixels(self) -> int:
        """Number of pixels of the image."""
        return int(np.prod(self.shape, dtype=np.int64))

    def centres(self, axis: str) -> np.ndarray:
        """Middle of each pixel along an axis, in the axis' unit; the first layer's middle is 0.5."""
        edges = np.asarray(self.edges[self._index(axis)])
        return 0.5 * (edges[:-1] + edges[1:])

    def unit(self, axis: str) -> str:
        """The unit of an axis."""
        return self.units[self._index(axis)]

    def _index(self, axis: str) -> int:
        for i, name in enumerate(self.axes):
            if name == axis:
                return i
        raise ValueError(f"the image has no axis {axis!r}; it has {', '.join(self.axes)}")

    def to_json(self) -> str:
        """As text, for a file's attribute."""
        content: dict[str, Any] = {"axes": self.axes, "edges": self.edges, "units": self.units}
        if self.binning is not None:
            content["binning"] = self.binning.to_dict()
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The geometry of :meth:`to_json`.

        Raises:
            ValueError: the text is something else.
        """
        try:
            content = json.loads(text)
            axes = tuple(content["axes"])
            edges = tuple(tuple(float(edge) for edge in axis) for axis in content["edges"])
            units = tuple(str(unit) for unit in content["units"])
            binning = content.get("binning")
        except (TypeError, KeyError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError("the geometry is not the JSON text of axes, edges and units") from error
        if not all(isinstance(axis, str) for axis in axes):
            raise ValueError(f"axes are {list(axes)}; allowed are {', '.join(_AXES)}")
        return cls(axes, edges, units, None if binning is None else Binning.from_dict(binning))


@dataclass(frozen=True)
class Downscaling:
    """Sums of neighbouring cells: index boundaries along each axis of ``source``, and the axes that survive."""

    source: Geometry
    boundaries: tuple[tuple[int, ...], ...]
    target: Geometry

    @classmethod
    def plan(
        cls,
        source: Geometry,
        grid: Sequence[int] | None,
        axes: Sequence[Axis] | None,
        edges: Mapping[Axis, Sequence[int]] | None,
    ) -> Self:
        """From ``source`` to ``grid`` pixels along ``axes``; all other axes are summed over.

        Args:
            source: geometry of the cells.
            grid: pixels along each of ``axes``; None leaves the cells of these axes as they are.
            axes: which axes survive. None: all of ``source`` if their number fits the grid, else ``layer`` for one
                and ``x``, ``y`` for two numbers.
            edges: for some axes the cell indices where pixels start, and the end of the last; cells outside are left
                out. An axis that is summed over takes two: the range that is summed.

        Raises:
            ValueError: axes that ``source`` does not have, or a grid or edges that do not fit them.
        """
        edges = dict(edges or {})
        if axes is None:
            if grid is None or len(grid) == len(source.axes):
                axes = source.axes
            else:
                named: dict[int, tuple[Axis, ...]] = {1: ("layer",), 2: ("x", "y")}
                axes = named.get(len(grid), ("layer", "x", "y"))
        axes = tuple(axes)
        missing = [axis for axis in (*axes, *edges) if axis not in source.axes]
        if missing:
            raise ValueError(f"axis {missing[0]!r} is not in the file; it has {', '.join(source.axes)}")
        if list(axes) != [axis for axis in source.axes if axis in axes]:
            raise ValueError(f"axes are {list(axes)}; the file's order is {', '.join(source.axes)}, each once")
        if grid is not None and len(grid) != len(axes):
            raise ValueError(f"grid {tuple(grid)} has {len(grid)} numbers for the {len(axes)} axes {', '.join(axes)}")
        boundaries = []
        for axis, cells in zip(source.axes, source.shape, strict=True):
            pixels: int | None = 1
            if axis in axes:
                pixels = None if grid is None else grid[axes.index(axis)]
            boundaries.append(_boundaries(axis, cells, pixels, edges.get(axis)))
        whole = tuple(tuple(range(cells + 1)) for cells in source.shape)
        if axes == source.axes and tuple(boundaries) == whole:
            return cls(source, whole, source)
        kept = [i for i, axis in enumerate(source.axes) if axis in axes]
        target = Geometry(
            axes,
            tuple(tuple(source.edges[i][j] for j in boundaries[i]) for i in kept),
            tuple(source.units[i] for i in kept),
        )
        return cls(source, tuple(boundaries), target)

    def __call__(self, showers: np.ndarray) -> np.ndarray:
        """Cells ``(N, cells)`` in the order of ``source`` to pixels ``(N, pixels)``, float64."""
        values = showers.astype(np.float64, copy=False).reshape(len(showers), *self.source.shape)
        # the last axis first: it lies together in memory and leaves the least to be done for the others
        for axis in range(len(self.boundaries), 0, -1):
            groups = self._groups(axis - 1)
            if groups is not None:
                values = np.moveaxis(np.moveaxis(values, axis, -1) @ groups, -1, axis)
        return values.reshape(len(showers), self.target.n_pixels)

    def _groups(self, i: int) -> np.ndarray | None:
        """Ones where a cell (row) belongs to a pixel (column); None where each cell is a pixel."""
        bounds, cells = np.asarray(self.boundaries[i]), self.source.shape[i]
        if len(bounds) - 1 == cells:
            return None
        position = np.arange(cells)[:, None]
        return ((position >= bounds[:-1]) & (position < bounds[1:])).astype(np.float64)


def _boundaries(axis: str, cells: int, pixels: int | None, edges: Sequence[int] | None) -> tuple[int, ...]:
    """Cell indices where pixels start and the last one ends; ``pixels`` None leaves their number to ``edges``."""
    if edges is None:
        try:
            return group_edges(cells, cells if pixels is None else pixels)
        except ValueError as error:
            raise ValueError(f"grid along {axis!r}: {error}") from error
    edges = tuple(edges)
    if len(edges) < 2 or any(a >= b for a, b in pairwise(edges)):
        raise ValueError(f"edges of {axis!r} are {edges}; at least two increasing cell indices are needed")
    if edges[0] < 0 or edges[-1] > cells:
        raise ValueError(f"edges of {axis!r} are {edges}; the file has {cells} cells there, indices 0 to {cells}")
    if pixels is not None and len(edges) - 1 != pixels:
        raise ValueError(f"edges of {axis!r} make {len(edges) - 1} pixels, the grid asks for {pixels}")
    return edges
