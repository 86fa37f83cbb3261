"""Sweeps: an experiment at every point of a grid, its jobs on any farm, its results in one tidy table.

:func:`sweep` runs one or goes on with it, :func:`load_sweep` reads it::

    from experiments.sweep import sweep

    found = sweep("quickstart-muon", {"dataset.n": [500, 1000], "seed": range(3)}, farm="processes=2")
    print(found.table.num_rows, [job.error for job in found.failures])
"""

from experiments.sweep.reading import Job, Sweep, load_sweep
from experiments.sweep.running import Told, sweep

__all__ = ["Job", "Sweep", "Told", "load_sweep", "sweep"]
