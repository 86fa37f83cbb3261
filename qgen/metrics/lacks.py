"""What a dataset lacks for the metrics of one kind of events, in words; nothing if it lacks nothing."""

from __future__ import annotations

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.dataset import Dataset
from qgen.data.muon import MuonDataset

__all__ = ["lacks_energies", "lacks_images", "lacks_layers", "lacks_positions", "lacks_showers"]


def lacks_showers(dataset: Dataset) -> str:
    """For metrics of showers.

    >>> from qgen.data import simulate_muon
    >>> lacks_showers(simulate_muon(n=5))
    'calorimeter images'
    """
    return "" if isinstance(dataset, CalorimeterDataset) else "calorimeter images"


def lacks_images(dataset: Dataset) -> str:
    """For metrics of how alike images are."""
    return "" if isinstance(dataset, CalorimeterDataset) and dataset.n_features > 1 else "images of at least 2 pixels"


def lacks_energies(dataset: Dataset) -> str:
    """For metrics of energies of pixels, which a plain table may hold as well."""
    possible = not isinstance(dataset, MuonDataset) and bool((dataset.samples >= 0).all())
    return "" if possible or isinstance(dataset, CalorimeterDataset) else "energies of pixels, which are not negative"


def lacks_layers(dataset: Dataset) -> str:
    """For metrics of several layers."""
    if not isinstance(dataset, CalorimeterDataset):
        return lacks_showers(dataset)
    geometry = dataset.geometry
    if geometry.binning is not None:
        count = len(geometry.binning.layers)
    else:
        count = geometry.shape[geometry.axes.index("layer")] if "layer" in geometry.axes else 1
    return "" if count > 1 else "images with at least two layers"


def lacks_positions(dataset: Dataset) -> str:
    """For lateral metrics."""
    if not isinstance(dataset, CalorimeterDataset):
        return lacks_showers(dataset)
    known = dataset.geometry.binning is not None or {"x", "y"} & set(dataset.geometry.axes)
    return "" if known else "images with an axis x or y"
