"""Training by several processes, with the gradients of one.

Every process builds the same model, sees the same events and draws the same random numbers. What is computed event by
event is shared out (:mod:`qgen.training.rows`): densities, networks of layers that act on each event by itself, and
batches of circuits. All else, the loss among it, every process computes whole. So any objective works as it is, and a
training has the state of one process: it may be interrupted and go on with another number of them.

``torchrun --nproc-per-node 2 script.py`` starts the processes, of which :func:`joined` makes one group::

    with joined() as ranks:
        fit(model, dataset, NLL(), ranks=ranks)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from qgen.generator import Generator
from qgen.statefile import packed, unpacked
from qgen.training.rows import gathered, own_rows, shared

__all__ = ["Ranks", "SharesRows", "joined"]

ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

PATIENCE = timedelta(days=30)
"""How long a process waits for another one that lives: the first judges models while the others wait."""

BY_ROW = (
    nn.Linear,
    nn.Identity,
    nn.LeakyReLU,
    nn.ReLU,
    nn.SiLU,
    nn.GELU,
    nn.ELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.LayerNorm,
)
"""Layers that act on every row by itself, without chance and memory."""


@runtime_checkable
class SharesRows(Protocol):
    """A module that computes rows outside of torch's layers, and can share them out."""

    def rows_shared(self, share: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]) -> Any:
        """A context in which it does so by ``share``."""


@dataclass
class Ranks:
    """The processes that train together.

    Args:
        rank: number of this one, from 0.
        size: how many there are.
        device: where this one computes.
    """

    rank: int
    size: int
    device: torch.device
    _inside: bool = field(default=False, repr=False)

    def send(self, message: Any) -> None:
        """Tell the others something, a JSON value; the first process alone does."""
        self._bytes(json.dumps(message).encode())

    def receive(self) -> Any:
        """What the first process sends."""
        return json.loads(self._bytes(b""))

    def same(self, state: Any) -> Any:
        """The first process's value of nested dicts and lists of tensors and JSON values, in every process."""
        tensors: dict[str, Tensor] = {}
        structure = packed(state, tensors)
        kinds = {name: [str(t.dtype).removeprefix("torch."), list(t.shape)] for name, t in tensors.items()}
        structure, kinds = json.loads(self._bytes(json.dumps([structure, kinds]).encode()))
        for name, (dtype, shape) in kinds.items():
            if self.rank:
                tensors[name] = torch.empty(shape, dtype=getattr(torch, dtype))
            dist.broadcast(tensors[name], 0)
        return unpacked(structure, tensors)

    def clock(self, own: Callable[[], float]) -> Callable[[], float]:
        """A clock that shows the first process's time in every one: all stop at the same step."""

        def shown() -> float:
            now = torch.tensor([own()], dtype=torch.float64)
            dist.broadcast(now, 0)
            return now.item()

        return shown

    def _bytes(self, content: bytes) -> bytes:
        length = torch.tensor([len(content)])
        dist.broadcast(length, 0)
        data = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == 0:
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return bytes(data.numpy())

    @contextmanager
    def sharing(self, generator: Generator, *others: nn.Module) -> Iterator[None]:
        """Let the processes share what the generator and other modules compute row by row, while the block runs.

        Raises:
            ValueError: circuits run on a machine elsewhere, which every process would ask.
        """
        with ExitStack() as until:
            for module in [each for top in (generator, *others) for each in top.modules()]:
                if isinstance(module, SharesRows):
                    until.enter_context(module.rows_shared(lambda function, rows: self._share(function, rows)))
            if generator.has_log_prob and not generator.runs_circuits:
                until.enter_context(_replaced(generator, "_log_prob", self._called(generator, "_log_prob")))
            for module in _by_row(generator, *others):
                until.enter_context(_replaced(module, "forward", self._called(module, "forward")))
            yield

    def _share(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """The function's value of all rows, each process computing it for its own."""
        n = len(inputs[0])
        own = [own_rows(rows) if isinstance(rows, Tensor) else rows for rows in inputs]
        return gathered(self._alone(function, *own), n)

    def _alone(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """The function's value without sharing anything inside it."""
        before, self._inside = self._inside, True
        try:
            return function(*inputs)
        finally:
            self._inside = before

    def _called(self, module: nn.Module, name: str) -> Callable[..., Tensor]:
        """A method of a module that takes rows and gives rows, shared out."""
        method = getattr(module, name)
        whole = _Method(module, method)

        def call(*inputs: Any) -> Tensor:
            n = len(inputs[0]) if inputs[0].ndim > 1 else 0
            if self._inside or n < 2 or any(rows is not None and len(rows) != n for rows in inputs):
                return self._alone(method, *inputs) if self._inside else method(*inputs)
            named = dict(whole.named_parameters())
            weights = dict(zip(named, shared(list(named.values())), strict=True))
            return self._share(lambda *own: torch.func.functional_call(whole, weights, own), *inputs)

        return call


class _Method(nn.Module):
    """A method as a module, so that it can be called with other parameters."""

    def __init__(self, module: nn.Module, method: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self.method = method

    def forward(self, *inputs: Any) -> Tensor:
        return self.method(*inputs)


def _by_row(*modules: nn.Module) -> Iterator[nn.Module]:
    """The largest modules in some, that act on every row by itself."""
    for module in modules:
        if _acts_by_row(module) and any(True for _ in module.parameters()):
            yield module
        else:
            yield from _by_row(*module.children())


def _acts_by_row(module: nn.Module) -> bool:
    if isinstance(module, nn.Sequential):
        return all(_acts_by_row(child) for child in module)
    return isinstance(module, BY_ROW)


@contextmanager
def _replaced(module: nn.Module, name: str, method: Callable[..., Tensor]) -> Iterator[None]:
    """Let another method stand for one of a module."""
    setattr(module, name, method)
    try:
        yield
    finally:
        delattr(module, name)


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks | None]:
    """The group of the processes that ``torchrun`` started, left at the end; None where it started one or none.

    Where a process fails, the first one to do so lets its error through; the others end with exit status 2.

    Args:
        device: ``cpu``, or ``cuda`` for one GPU each.

    >>> with joined() as ranks:  # no torchrun here
    ...     print(ranks)
    None
    """
    if any(name not in os.environ for name in ENVIRONMENT) or int(os.environ["WORLD_SIZE"]) < 2:
        yield None
        return
    store, rank, size = next(rendezvous("env://"))
    own = torch.device(device)
    if own.type == "cuda" and own.index is None:
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count()))
    kind = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    dist.init_process_group(kind, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield Ranks(rank, size, own)
    except KeyboardInterrupt:
        if rank:
            raise SystemExit(130) from None
        raise
    except Exception as error:
        if not _first_to_fail(store):
            raise SystemExit(2) from error
        # it leaves the group by ending, when it has said why: before, the others would end, and torchrun this one
        if isinstance(error, RuntimeError) and ("gloo" in str(error) or isinstance(error, dist.DistError)):
            raise ConnectionError(f"one of {size} processes ended while process {rank} waited for it") from error
        raise
    dist.destroy_process_group()


def _first_to_fail(store: Any) -> bool:
    try:
        return bool(store.add("qgen failed", 1) == 1)
    except RuntimeError:  # it went with the process that failed first
        return False
