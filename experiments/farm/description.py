"""What a farm is: a validated description, from one line of text or a section of YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge
from pydantic import BaseModel, ConfigDict

__all__ = ["Farm", "Here", "Processes", "farm_from"]

Count = Annotated[int, Ge(1)]


class Farm(BaseModel):
    """Where jobs run.

    Args:
        kind: ``here``, ``processes``, ``dask``, ``slurm`` or ``htcondor``.
        threads: of each worker, for torch, numba and the linear algebra libraries; one worker runs one job at a time.
        device: with ``cuda`` every worker has a GPU of its own.

    >>> farm_from("processes=4")
    Processes(kind='processes', threads=1, device='cpu', workers=4)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    value: ClassVar[str] = ""
    """The field that stands behind ``kind=`` in a line of text."""

    kind: str
    threads: Count = 1
    device: Literal["cpu", "cuda"] = "cpu"

    def plain(self) -> dict[str, Any]:
        """As it stands in YAML, without what is left at its default; ``farm_from(farm.plain()) == farm``."""
        return {"kind": self.kind, **self.model_dump(exclude={"kind"}, exclude_defaults=True)}

    def on(self, device: str) -> Farm:
        """The same farm for jobs on a device, ``cpu`` or ``cuda``.

        Raises:
            ValueError: another device, or the farm cannot give each worker a GPU.
        """
        return farm_from({**self.plain(), "device": device})

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Start the workers; they end with the block, at once if it is left by an exception.

        Raises:
            ImportError: dask is needed and is not installed.
            ValueError: there are fewer GPUs than workers, or workers have another version of the lab.
            OSError: no scheduler answers.
        """
        raise NotImplementedError
        yield


class Here(Farm):
    """This process: one job after the other, in their order."""

    kind: Literal["here"] = "here"

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """An executor that runs a job when it is submitted."""
        from experiments.farm.local import InProcess

        with InProcess() as executor:
            yield executor


class Processes(Farm):
    """Processes of this machine.

    Args:
        workers: how many; as many as there are processors (or GPUs) for their threads if not given.
    """

    value: ClassVar[str] = "workers"
    kind: Literal["processes"] = "processes"
    workers: Count | None = None

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Start a pool of processes; one that dies costs the job it runs and is replaced."""
        from experiments.farm.local import WorkerProcesses, visible_gpus, workers_here

        gpus = visible_gpus() if self.device == "cuda" else []
        workers = workers_here(self.workers, self.threads, gpus if self.device == "cuda" else None)
        executor = WorkerProcesses(workers, self.threads, gpus)
        try:
            yield executor
        except BaseException:
            executor.end()
            raise
        executor.shutdown()


def farm_from(described: str | Mapping[str, Any]) -> Farm:
    """A farm from one line of text or from a section of a configuration.

    Args:
        described: ``here``, ``processes`` or ``processes=4``; or keys and values, ``kind`` and fields of that kind.

    Raises:
        ValueError: it is none; one line says what is wrong.

    >>> farm_from({"kind": "here"})
    Here(kind='here', threads=1, device='cpu')
    >>> farm_from("proceses=2")
    Traceback (most recent call last):
    ValueError: farm: kind 'proceses' is unknown; did you mean 'processes'? Known: here, processes
    """
    from experiments.sections import validated
    from qgen.text import unknown

    values: dict[str, Any]
    if isinstance(described, str):
        values = _from_line(described)
    elif isinstance(described, Mapping):
        values = dict(described)
    else:
        raise ValueError(f"farm: found {described!r}; expected a line such as processes=4, or keys and values")
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"farm: {unknown('kind', kind, KINDS)}")
    return validated(KINDS[kind], values, "farm")


def _from_line(line: str) -> dict[str, Any]:
    kind, equals, text = (part.strip() for part in line.partition("="))
    if not equals or kind not in KINDS:
        return {"kind": kind}
    field = KINDS[kind].value
    if not field:
        raise ValueError(f"farm: {kind} takes no value (found {text!r})")
    number = text.isascii() and text.isdigit() and len(text) < 10
    if number:
        return {"kind": kind, field: int(text)}
    raise ValueError(f"farm: {kind}={text}: expected a number of workers")


KINDS: dict[str, type[Farm]] = {"here": Here, "processes": Processes}
