"""Where jobs run: in this process, in local processes, or on machines that dask reaches, from one line of text.

:func:`farm_from` reads the line, :meth:`Farm.open` gives a :class:`concurrent.futures.Executor`, and :func:`completed`
runs a function over many arguments on it, gives each outcome as it ends and survives the death of workers::

    from experiments.farm import completed, farm_from

    for outcome in completed(farm_from("processes=4"), pow, [(2, 3), (2, 4)]):
        print(outcome.index, outcome.value, outcome.error)
"""

from experiments.farm.description import Dask, Farm, Here, HTCondor, Processes, Slurm, farm_from
from experiments.farm.outcomes import Outcome, WorkerLostError, completed

__all__ = [
    "Dask",
    "Farm",
    "HTCondor",
    "Here",
    "Outcome",
    "Processes",
    "Slurm",
    "WorkerLostError",
    "completed",
    "farm_from",
]
