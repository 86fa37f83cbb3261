r"""``Binning``: where the voxels of a CaloChallenge shower lie, as its XML files state it.

A voxel of the `CaloChallenge <https://arxiv.org/abs/2410.21611>`_ is a bin in radius and angle of a layer. Its files
list, for each particle, the layers with the edges in radius (mm) and the number of bins in the angle :math:`\alpha`,
which goes from :math:`-\pi` to :math:`\pi`. Voxels are stored layer by layer, in each the angles one after another, the
radius fastest. A voxel's position is the middle of its bin, :math:`x = r \cos \alpha` and :math:`y = r \sin \alpha`;
the challenge calls these :math:`\Delta\eta` and :math:`\Delta\phi`, in mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError, ParserCreate

import numpy as np

from qgen.text import listed, unknown

__all__ = ["BinnedLayer", "Binning", "load_binning"]

MAX_BYTES, MAX_VOXELS = 2**24, 200_000


@dataclass(frozen=True)
class BinnedLayer:
    """A layer's voxels.

    Args:
        number: of the layer in the detector.
        radii: edges in radius, mm, increasing from 0 or more.
        n_alpha: bins in angle.

    Raises:
        ValueError: radii that do not increase, or no bin in angle.

    >>> BinnedLayer(1, (0.0, 2.0, 4.0), 10).n_voxels
    20
    """

    number: int
    radii: tuple[float, ...]
    n_alpha: int

    def __post_init__(self) -> None:
        increase = all(low < high for low, high in pairwise(self.radii))
        if len(self.radii) < 2 or not increase or self.radii[0] < 0 or not math.isfinite(self.radii[-1]):
            raise ValueError(
                f"layer {self.number}: radii {list(self.radii)}; at least two finite, increasing ones are needed"
            )
        if self.n_alpha < 1:
            raise ValueError(f"layer {self.number}: {self.n_alpha} bins in alpha; at least 1 is needed")

    @property
    def n_voxels(self) -> int:
        """Bins in radius times bins in angle."""
        return (len(self.radii) - 1) * self.n_alpha

    @property
    def r(self) -> np.ndarray:
        """Radius of each voxel, ``(n_voxels,)``, mm."""
        edges = np.asarray(self.radii)
        return np.tile((edges[:-1] + edges[1:]) / 2, self.n_alpha)

    @property
    def alpha(self) -> np.ndarray:
        """Angle of each voxel, ``(n_voxels,)``, radians."""
        edges = np.linspace(-math.pi, math.pi, self.n_alpha + 1)
        return np.repeat((edges[:-1] + edges[1:]) / 2, len(self.radii) - 1)


@dataclass(frozen=True)
class Binning:
    """The layers of a detector that have voxels.

    Args:
        layers: in the order of the voxels.
        particle: for which the binning was made: ``photon``, ``pion`` or ``electron`` in the challenge's files.

    Raises:
        ValueError: no layer, two of one number, or more than 200,000 voxels.

    >>> binning = Binning((BinnedLayer(0, (0.0, 5.0, 10.0), 1), BinnedLayer(1, (0.0, 2.0), 10)), "photon")
    >>> binning.n_voxels, binning.starts
    (12, (0, 2))
    """

    layers: tuple[BinnedLayer, ...]
    particle: str = ""

    def __post_init__(self) -> None:
        if not self.layers:
            raise ValueError("a binning needs at least one layer with voxels, found none")
        numbers = [layer.number for layer in self.layers]
        if len(set(numbers)) < len(numbers):
            twice = next(n for n in numbers if numbers.count(n) > 1)
            raise ValueError(f"layer {twice} is there twice; every layer needs a number of its own")
        if self.n_voxels > MAX_VOXELS:
            raise ValueError(f"{self.n_voxels} voxels; at most {MAX_VOXELS} are possible")

    @property
    def n_voxels(self) -> int:
        """Of all layers."""
        return sum(layer.n_voxels for layer in self.layers)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where the voxels of each layer begin."""
        return tuple(sum(layer.n_voxels for layer in self.layers[:i]) for i in range(len(self.layers)))

    def layer_sums(self, showers: np.ndarray) -> np.ndarray:
        """Energies of voxels ``(N, n_voxels)`` summed to layers ``(N, layers)``."""
        return np.add.reduceat(showers, np.asarray(self.starts), axis=1)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        layers = [{"number": la.number, "radii": list(la.radii), "n_alpha": la.n_alpha} for la in self.layers]
        return {"particle": self.particle, "layers": layers}

    @classmethod
    def from_dict(cls, content: Any) -> Self:
        """The binning of :meth:`to_dict`.

        Raises:
            ValueError: something else, or a binning that cannot be.
        """
        try:
            layers = [
                (int(la["number"]), tuple(float(edge) for edge in la["radii"]), int(la["n_alpha"]))
                for la in content["layers"]
            ]
            particle = str(content["particle"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("the binning is not the particle and the layers with number, radii and n_alpha") from error
        return cls(tuple(BinnedLayer(*layer) for layer in layers), particle)


def load_binning(path: str | Path, *, particle: str | None = None) -> Binning:
    """The binning of a CaloChallenge XML file.

    ``<Bins>`` holds one ``<Bin name="photon">`` for each particle, and that one ``<Layer id="0" r_edges="0,5,10"
    n_bin_alpha="1"/>`` for each layer of the detector; a layer with a single edge has no voxels.

    Args:
        path: the file.
        particle: which one, where the file has several.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such XML, lacks the particle, or a layer is impossible (file and layer are named).

    >>> import tempfile
    >>> text = '<Bins><Bin name="pion"><Layer id="3" r_edges="0,50,100" n_bin_alpha="4"/></Bin></Bins>'
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "binning.xml")
    ...     _ = path.write_text(text)
    ...     load_binning(path).n_voxels
    8
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; a binning has at most {MAX_BYTES}")
    try:
        root = _plain_xml(path.read_bytes())
    except (ElementTree.ParseError, ExpatError, ValueError, LookupError) as error:
        raise ValueError(f"{path}: not an XML file ({' '.join(str(error).split())})") from error
    found = {bins.attrib.get("name", ""): bins for bins in root if bins.find("Layer") is not None}
    if not found:
        raise ValueError(f"{path}: no binning: expected elements Bin with elements Layer in them")
    if particle is None:
        if len(found) > 1:
            raise ValueError(f"{path}: has binnings for {listed(found)}; say for which particle")
        particle = next(iter(found))
    if particle not in found:
        raise ValueError(f"{path}: {unknown('particle', particle, found)}")
    try:
        layers = [_layer(element) for element in found[particle].findall("Layer")]
        return Binning(tuple(layer for layer in layers if layer is not None), particle)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _plain_xml(content: bytes) -> ElementTree.Element:
    """The elements of an XML file without a document type, in which entities could be defined that grow."""

    def refuse(*declared: object) -> None:
        raise ValueError("a document type is not read")

    parser = ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(content, True)
    return ElementTree.fromstring(content)


def _layer(element: ElementTree.Element) -> BinnedLayer | None:
    """A layer, or None if it has no voxels."""
    given = {name: element.attrib.get(name) for name in ("id", "r_edges", "n_bin_alpha")}
    for name, text in given.items():
        if text is None:
            raise ValueError(f"a layer has no attribute {name}; it has {listed(element.attrib) or 'none'}")
    try:
        number, n_alpha = int(given["id"] or ""), int(given["n_bin_alpha"] or "")
        radii = tuple(float(edge) for edge in (given["r_edges"] or "").split(","))
    except ValueError as error:
        raise ValueError(
            f"layer id {_short(given['id'])}, r_edges {_short(given['r_edges'])}, "
            f"n_bin_alpha {_short(given['n_bin_alpha'])}; "
            "whole numbers and a list of radii are needed"
        ) from error
    return BinnedLayer(number, radii, n_alpha) if len(radii) > 1 else None


def _short(text: str | None) -> str:
    return repr((text or "")[:80])
