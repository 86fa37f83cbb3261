"""What a farm is: a validated description, from one line of text or a section of YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

__all__ = ["Batch", "Dask", "Farm", "HTCondor", "Here", "Processes", "Slurm", "farm_from"]

Count = Annotated[int, Ge(1)]


def _text(pattern: str, expected: str) -> AfterValidator:
    """A check of a whole text, and what is said of one that does not match."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


Line = Annotated[str, _text(r"[^\x00-\x1f\x7f\u2028\u2029]+", "one line of text")]
Size = Annotated[str, _text(r"[1-9][0-9]{0,8}(\.[0-9]{1,3})? ?[kMGT]i?B", "a size such as 4GB")]
Walltime = Annotated[str, _text(r"[0-9]{1,4}:[0-5][0-9]:[0-5][0-9]", "hours:minutes:seconds, such as 02:00:00")]
Address = Annotated[str, _text(r"(tcp|tls)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}", "tcp://host:port")]


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
            ValueError: another device, the farm is one of GPUs and the device is none, or the farm cannot give each
                worker a GPU.
        """
        if self.device == "cuda" and device == "cpu":
            raise ValueError("farm: device is 'cuda', and models train on 'cpu'; ask for GPUs with --device cuda")
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


class Dask(Farm):
    """Workers of ``dask.distributed``: processes of this machine, or those of a scheduler that runs already.

    Args:
        workers: how many processes of this machine; as with :class:`Processes` if neither is given.
        address: of the scheduler, ``tcp://host:port``; its workers run one task at a time (``--nthreads 1``).
    """

    value: ClassVar[str] = "workers"
    kind: Literal["dask"] = "dask"
    workers: Count | None = None
    address: Address | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Dask:
        if self.workers is not None and self.address is not None:
            raise ValueError("workers and address are both given; a scheduler that runs already has its own workers")
        return self

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Start workers here, or connect to the scheduler."""
        with needs_dask():
            from experiments.farm.dask import connected, workers_of_this_machine
        if self.address is not None:
            opened = connected(self.address, self.threads)
        else:
            opened = workers_of_this_machine(self.workers, self.threads, self.device)
        with opened as executor:
            yield executor


class Batch(Farm):
    """Workers that are jobs of a batch system, each a job of its own; one that ends early is submitted again.

    Args:
        workers: how many.
        cores: of each.
        memory: of each, such as ``4GB``.
        walltime: of each, hours:minutes:seconds; a worker leaves two minutes before, and its job goes on in another.
        account: who pays.
        prologue: lines of shell before the worker starts, as ``source venv/bin/activate``.
        python: the interpreter; the one that submits if not given.
        scratch: folder of a worker for its own files, on a disk of the node.
        logs: folder of the batch system's logs.
        interface: network interface that scheduler and workers use, as ``ib0``.
        port: of the scheduler; a free one if not given.
        worker_options: of the command ``dask worker``.
    """

    value: ClassVar[str] = "workers"
    workers: Count
    cores: Count = 1
    memory: Size = "4GB"
    walltime: Walltime = "02:00:00"
    account: Line | None = None
    prologue: list[Line] = []
    python: Line | None = None
    scratch: Line | None = None
    logs: Line | None = None
    interface: Line | None = None
    port: Annotated[int, Ge(1), Le(65535)] | None = None
    worker_options: list[Line] = []

    @model_validator(mode="after")
    def _fits(self) -> Batch:
        if self.threads > self.cores:
            raise ValueError(f"threads is {self.threads}, and a worker has cores {self.cores}; at most as many")
        if self.walltime_seconds < 600:
            raise ValueError(f"walltime is {self.walltime}; at least 00:10:00 is needed")
        return self

    @property
    def walltime_seconds(self) -> int:
        """Of each worker."""
        hours, minutes, seconds = map(int, self.walltime.split(":"))
        return 3600 * hours + 60 * minutes + seconds

    def script(self) -> str:
        """What is submitted for each worker, with a placeholder for the scheduler's address.

        Raises:
            ImportError: dask-jobqueue is not installed.
        """
        with needs_dask():
            from experiments.farm.batch import job_script
        return job_script(self)

    @contextmanager
    def open(self) -> Iterator[Executor]:
        """Start a scheduler here and submit the workers."""
        with needs_dask():
            from experiments.farm.batch import submitted
        with submitted(self) as executor:
            yield executor


class Slurm(Batch):
    """Jobs of SLURM.

    Args:
        queue: the partition.
        directives: further options of ``sbatch``, as ``--constraint=avx2``.
    """

    kind: Literal["slurm"] = "slurm"
    queue: Line | None = None
    directives: list[Line] = []


class HTCondor(Batch):
    """Jobs of HTCondor.

    Args:
        disk: of each worker.
        directives: further lines of the submit file, by their names, as ``+JobFlavour``.
    """

    kind: Literal["htcondor"] = "htcondor"
    disk: Size = "2GB"
    directives: dict[Line, Line | int] = {}


@contextmanager
def needs_dask() -> Iterator[None]:
    """Say what is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in ("dask", "distributed", "dask_jobqueue"):
            raise
        raise ImportError(f"this farm needs {error.name}; install it with: pip install 'qgen-hep[dask]'") from error


def farm_from(described: str | Mapping[str, Any]) -> Farm:
    """A farm from one line of text or from a section of a configuration.

    Args:
        described: ``here``, ``processes``, ``processes=4``, ``dask``, ``dask=2``, ``dask=tcp://host:8786``,
            ``slurm=20`` or ``htcondor=20``; or keys and values, ``kind`` and fields of that kind.

    Raises:
        ValueError: it is none; one line says what is wrong.

    >>> farm_from({"kind": "here"})
    Here(kind='here', threads=1, device='cpu')
    >>> farm_from("here=2")
    Traceback (most recent call last):
    ValueError: farm: here takes no value (found '2')
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
    if kind == "dask":
        return {"kind": kind, "address": text}
    raise ValueError(f"farm: {line!r}: expected a number of workers after {kind}=")


KINDS: dict[str, type[Farm]] = {
    "here": Here,
    "processes": Processes,
    "dask": Dask,
    "slurm": Slurm,
    "htcondor": HTCondor,
}
