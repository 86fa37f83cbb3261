"""``simulate_geant4``: showers simulated by Geant4 itself (`Allison et al. 2016`_), through geant4_pybind.

The events are simulated in blocks of :data:`BLOCK`, each with a seed of its own, so that they do not depend on how many
processes share the work.

.. _Allison et al. 2016: https://doi.org/10.1016/j.nima.2016.06.125
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Literal, Self, get_args

import numpy as np
import torch

from qgen.data.calorimeter import CalorimeterDataset
from qgen.data.geometry import Axis
from qgen.data.sampling_calorimeter import MATERIALS, SamplingCalorimeter, energy_blocks, shower_dataset
from qgen.random import derive_seed

__all__ = ["find_geant4_data", "geant4_blocks", "simulate_geant4"]

BLOCK = 25
"""Showers of one run of Geant4."""

LEAST_CUT = 1e-3
"""mm; below, a shower takes hours."""

LOWEST, HIGHEST = 1e-3, 1e8
"""MeV; electromagnetic physics has no cross sections above."""

MOST_PER_CORE = 8
"""Processes; each takes about 100 MB."""

Particle = Literal["e-", "e+", "gamma"]
Physics = Literal["standard", "option1", "option2", "option3", "option4"]

_PHYSICS = {"standard": "G4EmStandardPhysics"} | {f"option{i}": f"G4EmStandardPhysics_option{i}" for i in range(1, 5)}

_DATA = {
    "G4LEDATA": ("G4EMLOW", "brem_SB"),
    "G4ENSDFSTATEDATA": ("G4ENSDFSTATE", "ENSDFSTATE.dat"),
}
"""What electromagnetic physics reads: the variable, the data set, and a file or folder in it."""

_ASKED = (
    "G4NEUTRONHPDATA",
    "G4LEVELGAMMADATA",
    "G4RADIOACTIVEDATA",
    "G4PARTICLEXSDATA",
    "G4PIIDATA",
    "G4REALSURFACEDATA",
    "G4SAIDXSDATA",
    "G4ABLADATA",
    "G4INCLDATA",
    "G4CHANNELINGDATA",
)
"""What the bindings ask for when they are imported, though electromagnetic physics never reads it."""


def find_geant4_data() -> dict[str, Path]:
    """The folders of the data sets of Geant4 that electromagnetic physics needs, by environment variable.

    Each is looked for where its variable says, then under ``GEANT4_DATA_DIR``, then under ``~/.geant4_pybind``.

    Raises:
        FileNotFoundError: one is not there; the message says which, where it was looked for and where to get it.
    """
    return {variable: _data_set(variable, name, holds) for variable, (name, holds) in _DATA.items()}


def _data_set(variable: str, name: str, holds: str) -> Path:
    stated = os.environ.get(variable)
    if stated:
        if not (Path(stated) / holds).exists():
            raise FileNotFoundError(f"{variable} is {stated}, which holds no {holds}; expected the folder of {name}")
        return Path(stated)
    places = [Path.home() / ".geant4_pybind"]
    if os.environ.get("GEANT4_DATA_DIR"):
        places.insert(0, Path(os.environ["GEANT4_DATA_DIR"]))
    found = [folder for place in places for folder in sorted(place.glob(f"{name}*")) if (folder / holds).exists()]
    if not found:
        looked = " or ".join(map(str, places))
        raise FileNotFoundError(
            f"Geant4's data set {name} was not found: {variable} is not set, and there is no {name}* in {looked}; "
            f"unpack it from https://geant4.web.cern.ch/download and set {variable} to its folder"
        )
    return found[-1]


def simulate_geant4(
    n: int = 1000,
    energy: float | Sequence[float] = (10_000.0, 100_000.0),
    calorimeter: SamplingCalorimeter | None = None,
    *,
    particle: Particle = "e-",
    physics: Physics = "option1",
    cut_mm: float = 0.7,
    workers: int | None = None,
    grid: Sequence[int] | None = None,
    axes: Sequence[Axis] | None = None,
    seed: int = 0,
) -> CalorimeterDataset:
    """Showers in a sampling calorimeter, simulated by Geant4.

    Every particle of a shower is followed step by step; for many showers and fast see
    :func:`~qgen.data.gflash.simulate_gflash`. The same arguments give the same showers, bit for bit.

    Args:
        n: number of showers.
        energy: incident kinetic energies in MeV, as :func:`~qgen.data.sampling_calorimeter.incident_energies` takes
            them.
        calorimeter: plates and pads; by default 25 layers of lead and silicon.
        particle: starts 1 mm before the middle of the front face, at normal incidence.
        physics: Geant4's electromagnetic physics, ``G4EmStandardPhysics`` or one of its options.
        cut_mm: range below which secondaries are not followed but leave their energy at once, mm.
        workers: processes side by side; as many as there are cores if not given. The showers do not depend on it.
        grid: pixels to which the pads are summed, as in :func:`~qgen.data.load_calorimeter`; None keeps the pads.
        axes: of the image, likewise.
        seed: fixes energies, showers and splits.

    Returns:
        Energy deposited in each active pad, MeV.

    Raises:
        ImportError: geant4_pybind is not installed.
        FileNotFoundError: Geant4's data sets are missing.
        ValueError: an impossible number or name.
        OSError: Geant4 ended in an error; its own words are in the message.
    """
    blocks = list(
        geant4_blocks(
            n,
            energy,
            calorimeter,
            particle=particle,
            physics=physics,
            cut_mm=cut_mm,
            workers=workers,
            grid=grid,
            axes=axes,
            seed=seed,
        )
    )
    return replace(
        blocks[0],
        samples=torch.cat([block.samples for block in blocks]),
        conditions=torch.cat([block.conditions for block in blocks]),
    )


def geant4_blocks(
    n: int = 1000,
    energy: float | Sequence[float] = (10_000.0, 100_000.0),
    calorimeter: SamplingCalorimeter | None = None,
    *,
    particle: Particle = "e-",
    physics: Physics = "option1",
    cut_mm: float = 0.7,
    workers: int | None = None,
    grid: Sequence[int] | None = None,
    axes: Sequence[Axis] | None = None,
    seed: int = 0,
) -> Iterator[CalorimeterDataset]:
    """The showers of :func:`simulate_geant4` in blocks of :data:`BLOCK`, in their order, each when it is ready."""
    calorimeter = calorimeter or SamplingCalorimeter()
    workers = _checked(particle, physics, cut_mm, workers)
    parts = energy_blocks(n, energy, BLOCK, allowed=(LOWEST, HIGHEST), seed=seed)
    program = {"particle": particle, "physics": _PHYSICS[physics], "cut_mm": cut_mm}
    provenance = {"engine": "Geant4", "geant4_pybind": _version(), **program, "seed": seed}
    materials = {name: MATERIALS[getattr(calorimeter, name)].geant4 for name in ("passive", "active")}
    setup = {**program, "calorimeter": calorimeter.to_dict() | materials}
    environment = _environment()

    def simulated() -> Iterator[CalorimeterDataset]:
        count = -(-n // BLOCK)
        seeds = (derive_seed(seed, "geant4", number) % 2**31 for number in range(count))
        with _Processes(min(workers, count), setup, environment) as processes:
            for part, showers in processes.run(parts, seeds, calorimeter.n_cells):
                yield shower_dataset(part, showers, calorimeter, grid=grid, axes=axes, seed=seed, provenance=provenance)

    return simulated()


def _checked(particle: str, physics: str, cut_mm: float, workers: int | None) -> int:
    """The number of processes, after a look at everything else."""
    if particle not in get_args(Particle):
        raise ValueError(f"particle is {particle!r}; allowed are {', '.join(get_args(Particle))}")
    if physics not in _PHYSICS:
        raise ValueError(f"physics is {physics!r}; allowed are {', '.join(_PHYSICS)}")
    if not LEAST_CUT <= cut_mm < math.inf:
        raise ValueError(f"cut_mm is {cut_mm}; at least {LEAST_CUT} mm is needed")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 process is needed")
    cores = len(os.sched_getaffinity(0))
    most = MOST_PER_CORE * cores
    if workers is not None and workers > most:
        raise ValueError(f"workers is {workers}; at most {most} processes are allowed on {cores} cores")
    return workers or cores


def _version() -> str:
    try:
        return importlib.metadata.version("geant4_pybind")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError("Geant4 needs geant4_pybind; install it with: pip install 'qgen-hep[geant4]'") from None


def _environment() -> dict[str, str]:
    """That of the processes: the bindings find all data sets stated, and neither ask for them nor download any.

    Under ``CI=true`` they would tidy up a folder of downloads, whether it is there or not.
    """
    data = {variable: str(folder) for variable, folder in find_geant4_data().items()}
    unused = {variable: os.environ.get(variable, data["G4LEDATA"]) for variable in _ASKED}
    return {name: value for name, value in os.environ.items() if name != "CI"} | unused | data


class _Processes:
    """Processes in which Geant4 runs, one block each at a time; leaving the context ends them at once."""

    def __init__(self, count: int, setup: dict[str, Any], environment: dict[str, str]) -> None:
        self._count, self._setup, self._environment = count, setup, environment
        self._idle: SimpleQueue[_Process] = SimpleQueue()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geant4-")))
            self._threads = ThreadPoolExecutor(self._count)  # each waits for its process
            stack.callback(self._threads.shutdown, cancel_futures=True)
            for number in range(self._count):
                process = _Process(self._setup, self._environment, self._folder / f"{number}.log")
                stack.callback(process.end)
                self._idle.put(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(
        self, energies: Iterable[np.ndarray], seeds: Iterable[int], n_cells: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each block with its showers, ``(N, n_cells)`` in MeV, in order; few more are simulated than are asked for."""
        ahead: deque[tuple[np.ndarray, Future[np.ndarray]]] = deque()

        def first() -> tuple[np.ndarray, np.ndarray]:
            block, showers = ahead.popleft()
            return block, showers.result()

        for number, (block, seed) in enumerate(zip(energies, seeds, strict=True)):
            ahead.append((block, self._threads.submit(self._block, number, block, seed, n_cells)))
            if len(ahead) > 2 * self._count:
                yield first()
        while ahead:
            yield first()

    def _block(self, number: int, energies: np.ndarray, seed: int, n_cells: int) -> np.ndarray:
        process, file = self._idle.get(), self._folder / f"{number}.npz"
        try:
            process.ask({"energies": energies.tolist(), "seed": seed, "file": str(file)})
        finally:
            self._idle.put(process)
        showers = np.zeros((len(energies), n_cells))
        with np.load(file, allow_pickle=False) as found:
            showers[found["shower"], found["voxel"]] = found["energy"]
        file.unlink()
        return showers


class _Process:
    """One process of :mod:`qgen.data.geant4_worker`; what it and Geant4 print goes to ``log``."""

    def __init__(self, setup: dict[str, Any], environment: dict[str, str], log: Path) -> None:
        self._log = log
        script = str(Path(__file__).with_name("geant4_worker.py"))
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                text=True,
                start_new_session=True,  # an interruption is the parent's to handle
            )
        self._send(setup)

    def ask(self, block: dict[str, Any]) -> None:
        """Have a block simulated and written to its file.

        Raises:
            OSError: the process ended.
        """
        self._send(block)
        if self._output.readline() != "done\n":
            code = self._process.wait()
            raise OSError(f"Geant4 ended with exit status {code}: {_last_words(self._log)}")

    def _send(self, message: dict[str, Any]) -> None:
        # a process that has ended is found when its answer is missing
        with suppress(BrokenPipeError):
            self._input.write(json.dumps(message) + "\n")
            self._input.flush()

    @property
    def _input(self) -> IO[str]:
        return _there(self._process.stdin)

    @property
    def _output(self) -> IO[str]:
        return _there(self._process.stdout)

    def end(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                _there(pipe).close()


def _there(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the process has no pipe")
    return pipe


def _last_words(log: Path) -> str:
    """The lines of a log that say what went wrong: those of Geant4's exception, else the last one."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    start = next((i for i, line in enumerate(lines) if "G4Exception" in line), len(lines) - 1)
    return " ".join(lines[start : start + 4]) or "it said nothing"
