"""``rescore``: the trained models of a run on other backends, judged as the run judged them; nothing is trained."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from circuits.backends import Backend, ParameterShift
from circuits.backends.layers import layers, shots_of
from experiments.distances import distances
from experiments.experiment import Evaluation
from experiments.judging import Judge, over_seeds
from experiments.provenance import environment
from experiments.rescored import BACKENDS, Rescoring, Role, read_rescoring, yaml_line
from experiments.run import JOBS, Reporter, backend_for, claimed
from experiments.scores import COMPLETED
from experiments.sections import is_folder_name, plain_backend
from experiments.strings import StringJudging
from experiments.watched import BackendError, Watched, failure
from qgen.device import find_device
from qgen.files import write_atomically
from qgen.plain import read_yaml, read_yaml_file
from qgen.random import derive_seed
from qgen.registry import generator_class
from qgen.run import GENERATOR, RESULTS, SAMPLES, Run, load_run, read_json

__all__ = ["Rescored", "backend_of_text", "rescore"]


@dataclass(frozen=True)
class Rescored:
    """What :func:`rescore` did.

    Args:
        results: by label.
        failures: why a backend could not be scored, or not to the end, by label.
    """

    results: dict[str, Rescoring]
    failures: dict[str, str]


def rescore(
    run: Run | Path | str,
    backends: Mapping[str, Mapping[str, Any] | str | Backend],
    models: Sequence[str] | None = None,
    *,
    force: bool = False,
    device: str = "cpu",
    reporter: Reporter | None = None,
) -> Rescored:
    """Score the trained models of a run on other backends.

    As many events as the run judged are drawn under the same conditions, from the same random numbers where the
    backend takes them, and judged by the same metrics against the same truth. So the exact backend gives the run's
    numbers again, and a difference is the backend's. Each result is written to ``backends/LABEL`` in the run's folder
    as soon as it is there; what is there already, of the same backend and the same weights, is not repeated.

    Args:
        run: a finished run, or its folder.
        backends: by label, which names a folder: a configuration as :func:`circuits.backends.make_backend` takes it,
            or a backend. Random numbers of a configuration without a seed follow from those of the training.
        models: names; all that run circuits if not given.
        force: score anew what is there already, also where the label is that of another backend.
        device: where the models are, ``cpu`` or ``cuda``.
        reporter: is told of progress.

    Returns:
        The results by label; backends that failed stand in ``failures``, and what they had scored before is kept.

    Raises:
        FileNotFoundError: the run is not finished.
        ValueError: no backend, an impossible label, a label that holds the scores of another backend, an unknown
            model, no model that runs circuits, or events that are not those of the run.
        BlockingIOError: another process is at work under the same label.
    """
    run = run if isinstance(run, Run) else load_run(run)
    reporter = reporter or Reporter()
    target = find_device(device)
    if not backends:
        raise ValueError("no backend is given; at least one is needed")
    names = _with_circuits(run, models, reporter)
    for label in backends:
        if not is_folder_name(label):
            raise ValueError(f"{label!r} is no label for a backend; it names a folder")
    jobs = {label: _Job.of(run, label, backend, force) for label, backend in backends.items()}
    judge = _judge(run)
    facts = environment(target)
    results, failures = {}, {}
    threads = torch.get_num_threads()
    torch.set_num_threads(int(run.config.get("threads", 1)))
    try:
        for label, job in jobs.items():
            with claimed(job.place):
                try:
                    job.run_all(names, judge, facts, target, reporter)
                except BackendError as error:
                    failures[label] = str(error)
                if job.models:
                    results[label] = read_rescoring(job.place / RESULTS)
    finally:
        torch.set_num_threads(threads)
    return Rescored(results, failures)


def backend_of_text(text: str) -> dict[str, Any]:
    """The configuration of a backend as a user names it: a kind, YAML, or a file of YAML.

    Raises:
        FileNotFoundError: the name of a file that is not there.
        ValueError: none of these; the key is named where one is wrong.

    >>> backend_of_text("{kind: statevector, shots: 100}")["shots"], backend_of_text("statevector")["kind"]
    (100, 'statevector')
    """
    path = Path(text)
    if re.search(r"[{\n]|: ", text):
        value = read_yaml(text, f"backend {text!r}")
    elif path.is_file():
        value = read_yaml_file(path)
    elif "/" in text or path.suffix in (".yaml", ".yml", ".json"):
        raise FileNotFoundError(f"backend {text!r}: no such file")
    else:
        value = read_yaml(text, f"backend {text!r}")
    if isinstance(value, Mapping) and set(value) == {"backend"}:
        value = value["backend"]
    return plain_backend(value)


def _with_circuits(run: Run, asked: Sequence[str] | None, reporter: Reporter) -> list[str]:
    """The models to score; the others are skipped with a word."""
    found: list[str] = []
    without: list[str] = []
    for name in run.models if asked is None else dict.fromkeys(asked):
        run.place(name)
        try:
            circuits = generator_class(run.config["models"][name]["kind"]).runs_circuits
        except (ValueError, ImportError) as error:
            reporter.warning(f"{name}: skipped, {error}")
            continue
        (found if circuits else without).append(name)
    if not found:
        raise ValueError(f"{run.folder}: none of the models {', '.join(asked or run.models)} runs circuits of qubits")
    for name in without:
        reporter.warning(f"{name}: skipped, it runs no circuits of qubits")
    return found


def _judge(run: Run) -> Judge:
    """The judge of the run, if its events are still those that it had."""
    _ = run.results
    noted = (run.environment.get("data") or {}).get("sha256")
    if noted is not None and run.dataset.checksum != noted:
        raise ValueError(
            f"{run.folder}: the dataset of the configuration gives other events now than when the models were judged"
        )
    return Judge.of(run.dataset, Evaluation.model_validate(run.config.get("evaluation") or {}))


@dataclass
class _Job:
    """The scoring of models on one backend: what is there of it, and the rest of the work.

    Args:
        run: the run.
        place: the folder.
        backend: a checked configuration, or the backend itself.
        force: whether to repeat what is there.
        models: what stands in the results.
    """

    run: Run
    place: Path
    backend: dict[str, Any] | Backend
    force: bool
    models: dict[str, Any]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    strings: dict[int, StringJudging | None] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, run: Run, label: str, backend: Mapping[str, Any] | str | Backend, force: bool) -> _Job:
        config = plain_backend(backend) if isinstance(backend, Mapping | str) else backend
        place = run.folder / BACKENDS / label
        stored = read_json(place / RESULTS) if (place / RESULTS).is_file() else None
        if stored is None:
            return cls(run, place, config, force, {})
        before = read_rescoring(place / RESULTS).backend.config
        if isinstance(config, dict) and before == config:
            return cls(run, place, config, force, stored["models"])
        if not force:
            what = "an object, which cannot be compared" if before is None else yaml_line(before)
            raise ValueError(
                f"{place}: holds the scores of another backend ({what}); choose another name, or replace them (--force)"
            )
        return cls(run, place, config, force, {})

    def run_all(
        self, names: list[str], judge: Judge, environment: dict[str, Any], device: torch.device, reporter: Reporter
    ) -> None:
        """Score what is missing, a model and a seed at a time."""
        label = self.place.name
        for name in names:
            for seed in self.run.seeds:
                weights = hashlib.sha256((self.run.place(name, seed) / GENERATOR).read_bytes()).hexdigest()
                there = self.models.get(name, {}).get("seeds", {}).get(str(seed))
                if there and not self.force and there["weights"] == weights and there["status"] == COMPLETED:
                    continue
                reporter.stage(f"{name} on {label}", seed, 0)
                scores, trouble = self._score(name, seed, judge, device, reporter)
                seeds = dict(self.models.get(name, {}).get("seeds", {}))
                seeds[str(seed)] = {**scores, "weights": weights}
                self.models[name] = self._over(name, seeds)
                content = {
                    "name": label,
                    "backend": self.facts,
                    "environment": environment,
                    "models": self.models,
                }
                write_atomically(self.place / RESULTS, (json.dumps(content, indent=1, default=str) + "\n").encode())
                self._sweep()
                if trouble is not None:
                    raise trouble

    def _sweep(self) -> None:
        """Remove events of which there are no scores any more: of a backend that had the label before."""
        for path in self.place.glob(f"seed-*/*/{SAMPLES}"):
            model, seed = path.parent.name, path.parent.parent.name.removeprefix("seed-")
            if seed not in self.models.get(model, {}).get("seeds", {}):
                path.unlink()

    def _score(
        self, name: str, seed: int, judge: Judge, device: torch.device, reporter: Reporter
    ) -> tuple[dict[str, Any], BackendError | None]:
        """A model of one seed on the backend, and what went wrong once its events were there."""
        folder = self.place / f"seed-{seed}" / name
        folder.mkdir(parents=True, exist_ok=True)
        backend = self._made(name, seed, device, folder)
        shots = shots_of(backend)
        self.facts = {
            "config": self.backend if isinstance(self.backend, dict) else None,
            "name": backend.name,
            "role": _role(backend),
            "capabilities": dataclasses.asdict(backend.capabilities),
            "shots": shots,
        }
        generator: Any = self.run.generator(name, seed, device)
        if backend.capabilities.remote:
            each = len(torch.unique(judge.other.conditions, dim=0)) if generator.n_conditions else 1
            reporter.warning(f"{name}: up to {each} circuits, one for each condition, go to {backend.name}")
        generator.backend = watched = Watched(backend)
        drawn = judge.draw(name, generator, seed, folder / SAMPLES)
        if drawn.events is None:
            reporter.warning(f"{name} on {self.place.name}, seed {seed}: {drawn.problem}")
        metrics = {}
        if drawn.events is not None:
            metrics = judge.scores({name: drawn.events}, seed, reporter.warning).get(name, {})
            if seed not in self.strings:
                self.strings[seed] = StringJudging.of_run(self.run, judge, seed)
            if (strings := self.strings[seed]) is not None:
                metrics = metrics | strings.scores({name: drawn.events}, {}, reporter.warning)[0].get(name, {})
        status, trouble, found = drawn.problem or COMPLETED, None, {}
        try:
            found = distances(generator, watched, shots, derive_seed(seed, name, "distances"))
        except BackendError as error:
            trouble = error
            status = f"distances to the exact distribution are missing: {error}"
        scores = {
            "kind": self.run.config["models"][name]["kind"],
            "n_parameters": generator.n_parameters,
            "train_seconds": self.run.training(name, seed)["seconds"],
            "sample_seconds": drawn.seconds,
            "status": status,
            "metrics": metrics,
            "distances": found,
            "circuits": watched.tally.executions,
            "measured": watched.tally.shots,
            "jobs": [_plain(job) for one in layers(backend) for job in getattr(one, "jobs", ())],
            "finished": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        }
        return scores, trouble

    def _made(self, name: str, seed: int, device: torch.device, folder: Path) -> Backend:
        """The backend; the jobs that it had sent off for a model are put away where they are to be done anew."""
        if not isinstance(self.backend, dict):
            return self.backend
        jobs = folder / JOBS
        if self.force and jobs.exists():
            jobs.rename(folder / f"{JOBS}-until-{datetime.now(tz=UTC):%Y%m%dT%H%M%S}")
        try:
            backend = backend_for(self.backend, name, seed, device, jobs)
        except Exception as error:  # whatever an engine raises costs this backend only
            raise failure(error) from error
        return backend.backend if isinstance(backend, ParameterShift) else backend  # no gradient is asked for

    def _over(self, name: str, seeds: dict[str, dict[str, Any]]) -> dict[str, Any]:
        """A model's numbers over the seeds that are there."""
        seeds = {str(seed): seeds[str(seed)] for seed in self.run.seeds if str(seed) in seeds}
        each = list(seeds.values())
        status = dict.fromkeys(one["status"] for one in each)
        if missing := [str(seed) for seed in self.run.seeds if str(seed) not in seeds]:
            status[f"seed {', '.join(missing)} not scored yet"] = None
        return {
            "kind": each[0]["kind"],
            "n_parameters": each[0]["n_parameters"],
            "train_seconds": statistics.fmean(one["train_seconds"] for one in each),
            "sample_seconds": statistics.fmean(one["sample_seconds"] for one in each),
            "status": "; ".join(status),
            "metrics": over_seeds([one["metrics"] for one in each if one["metrics"]]),
            "distances": over_seeds([one["distances"] for one in each if one["distances"]]),
            "circuits": sum(one["circuits"] for one in each),
            "measured": sum(one["measured"] for one in each),
            "seeds": seeds,
        }


def _role(backend: Backend) -> Role:
    if any(type(one).__module__.startswith("circuits.mitigation") for one in layers(backend)):
        return "mitigated"
    if backend.capabilities.noisy:
        return "noisy"
    return "exact" if backend.capabilities.exact else "sampled"


def _plain(job: Any) -> Any:
    """A record of a job as JSON values."""
    return dataclasses.asdict(job) if dataclasses.is_dataclass(job) and not isinstance(job, type) else str(job)
