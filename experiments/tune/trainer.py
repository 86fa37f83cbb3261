"""One trial: a model with the settings that the search proposes, trained as a run trains it, and judged."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from experiments.claim import held
from experiments.config import resolve
from experiments.experiment import Experiment
from experiments.scores import COMPLETED
from experiments.space import place
from experiments.trained import Reporter, steps_of, trained
from experiments.tune.judge import Judge
from experiments.tune.layout import Search
from experiments.tune.pruning import PrunedError, Rungs
from experiments.tune.storage import Storage
from experiments.tune.trials import PRUNED, Trial, Trials
from qgen.device import find_device
from qgen.random import derive_seed

__all__ = ["Trainer", "run_trial", "with_parameters"]


def run_trial(folder: str, search: str, model: str, number: int, storage: Storage, device: str) -> Trial | None:
    """One trial of a search, in whatever process of a farm this is called.

    Args:
        folder: of the search.
        search: its name in the storage; what was read for it once is not read again.
        model: of which.
        number: of the trial.
        storage: of its trials.
        device: where it trains, ``cpu`` or ``cuda``.

    Returns:
        What came of it, None if another process is at it.
    """
    return _trainer(folder, search, device).run(model, number, storage)


@lru_cache(maxsize=1)
def _trainer(folder: str, search: str, device: str) -> Trainer:
    return Trainer.of(Search.read(Path(folder)), find_device(device))


@dataclass(frozen=True)
class Trainer:
    """Does trials of a search in this process.

    Args:
        search: whose.
        judge: of the trials.
        device: where they train.
        reporter: is told of each that begins and of its records.
    """

    search: Search
    judge: Judge
    device: torch.device
    reporter: Reporter = field(default_factory=Reporter)
    _warm: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, search: Search, device: torch.device) -> Trainer:
        """One that reads the data itself."""
        return cls(search, search.judge(), device)

    def run(self, model: str, number: int, storage: Storage) -> Trial | None:
        """Begin a trial, or take one up that a process left when it died, and see it through.

        The lock of the trial says whether someone is at it; its parameters and its number are in the storage before it
        begins, its checkpoints in the search's folder until it has ended.

        Returns:
            What came of it, None if another process is at it.
        """
        with held(self.search.lock_of(model, number), wait=False) as mine:
            if not mine:
                return None
            with storage.open() as opened, _threads(self.search.experiment.threads):
                trials = Trials(opened, self.search.name, model)
                if number not in (ended := trials.finished()):
                    self._propose(trials, number)
                    ended[number] = self._tried(trials, number)
                    trials.end(ended[number])
                    with held(self.search.lock, wait=True):
                        trials.write(self.search.table_of(model))
            self.search.clean(model, number)
        return ended[number]

    def _propose(self, trials: Trials, number: int) -> None:
        with held(self.search.lock, wait=True):
            space = self.search.space(trials.model)
            trials.propose(space, self.search.first(trials.model), number, self.search.seed)

    def _tried(self, trials: Trials, number: int) -> Trial:
        """Train and judge; what cannot work is a result, but a disk or a database that is not there is none."""
        name, search = trials.model, self.search
        parameters = trials.parameters(number)
        of_trial = derive_seed(search.seed, name, "trial", number)
        self._warm_up(name)
        steps = steps_of(search.experiment.models[name])
        self.reporter.stage(f"{name}, trial {number + 1} of {search.trials}", search.seed, steps)
        told = Reporter(record=self.reporter.record)  # remarks on a training stand in its status
        started, began = time.perf_counter(), time.process_time()
        training: dict[str, Any] = {"steps": 0, "cpu_seconds": 0.0, "status": COMPLETED}
        score, uncertainty, size = None, None, 0
        try:
            config = with_parameters(search.experiment, name, parameters).models[name]
            rungs = None
            if search.prune:
                rungs = Rungs(trials, number, steps, lambda now: self.judge.score(now, of_trial).value)
            work = search.work_of(name, number)
            work.mkdir(exist_ok=True)
            generator, training = trained(
                name,
                config,
                self.judge.dataset,
                of_trial,
                work,
                self.device,
                told,
                search.experiment.checkpoint_every,
                watch=rungs,
            )
            size = generator.n_parameters
            found = self.judge.score(generator, of_trial)
            if not math.isfinite(found.value):
                raise ValueError(f"the score is {found.value}")
            score, uncertainty, status = found.value, found.uncertainty, training["status"]
        except PrunedError as pruned:
            status = f"{PRUNED} {pruned}"
            training = {"steps": pruned.step, "cpu_seconds": time.process_time() - began}
            size = pruned.n_parameters
        except OSError:
            raise
        except Exception as error:
            kind = "" if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: "
            status = f"failed: {kind}{' '.join(str(error).split())}".removesuffix(": ")
        return Trial(
            number=number,
            parameters=parameters,
            score=score,
            uncertainty=uncertainty,
            steps=training["steps"],
            seconds=time.perf_counter() - started,
            cpu_seconds=training["cpu_seconds"],
            n_parameters=size,
            status=status,
        )

    def _warm_up(self, name: str) -> None:
        """Take one step of a model, once, so that no trial's time goes into compiling; what fails here fails again."""
        if name in self._warm:
            return
        self._warm.add(name)
        model = self.search.experiment.models[name]
        once = model.model_copy(update={"training": {**(model.training or {}), "steps": 1, "seconds": None}})
        with suppress(ValueError, RuntimeError, MemoryError), TemporaryDirectory() as scratch:
            trained(name, once, self.judge.dataset, 0, Path(scratch), self.device, Reporter())


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch with so many threads; results of one count are not those of another to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_parameters(experiment: Experiment, name: str, parameters: Mapping[str, Any]) -> Experiment:
    """The experiment with one model alone, with these parameters.

    Raises:
        ValueError: they do not go together.
    """
    raw = experiment.plain()
    section = {key: value for key, value in raw["models"][name].items() if key != "tune"}
    raw["models"] = {name: place(section, parameters)}
    raw["evaluation"] = {key: raw["evaluation"][key] for key in ("metrics", "bootstrap", "max_events")}
    return resolve(raw)
