"""Events: readers, writers and generators of them, transforms to order one, and cells of discrete models."""

from collections.abc import Callable

from qgen.data.binary import BitDataset, blob_events, ising_events
from qgen.data.binning import Binning, load_binning
from qgen.data.calorimeter import CalorimeterDataset, load_calorimeter
from qgen.data.dataset import Dataset, Feature
from qgen.data.discretiser import Discretiser
from qgen.data.events import describe, load_events
from qgen.data.gaussianise import Gaussianise, NormalCDF
from qgen.data.gflash import gflash_events, simulate_gflash
from qgen.data.marginals import Marginals, ZeroSuppress
from qgen.data.muon import MuonDataset, muon_events, simulate_muon
from qgen.data.muon_files import load_muon
from qgen.data.ring import ring_events
from qgen.data.sampling_calorimeter import SamplingCalorimeter
from qgen.data.stream import EventFile, open_events
from qgen.data.toys import gamma_events, gaussian_events
from qgen.data.ttbar import load_ttbar
from qgen.data.whiten import Whiten
from qgen.data.writer import EventWriter, event_writer, write_calorimeter, write_events

__all__ = [
    "DATASETS",
    "Binning",
    "BitDataset",
    "CalorimeterDataset",
    "Dataset",
    "Discretiser",
    "EventFile",
    "EventWriter",
    "Feature",
    "Gaussianise",
    "Marginals",
    "MuonDataset",
    "NormalCDF",
    "SamplingCalorimeter",
    "Whiten",
    "ZeroSuppress",
    "blob_events",
    "describe",
    "event_writer",
    "gamma_events",
    "gaussian_events",
    "gflash_events",
    "ising_events",
    "load_binning",
    "load_calorimeter",
    "load_events",
    "load_muon",
    "load_ttbar",
    "muon_events",
    "open_events",
    "ring_events",
    "simulate_gflash",
    "simulate_muon",
    "write_calorimeter",
    "write_events",
]

DATASETS: dict[str, Callable[..., Dataset]] = {
    "calorimeter": load_calorimeter,
    "muon": muon_events,
    "gflash": gflash_events,
    "gamma": gamma_events,
    "gaussian": gaussian_events,
    "ring": ring_events,
    "blobs": blob_events,
    "ising": ising_events,
    "ttbar": load_ttbar,
}
"""Kinds of events in a configuration file; a builder's keyword arguments are the kind's options."""
