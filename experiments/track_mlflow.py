"""A run as MLflow shows it: parameters, curves, final metrics, provenance and files."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from experiments.claim import held
from experiments.experiment import Experiment
from experiments.provenance import dotted
from qgen.files import write_atomically
from qgen.run import CONFIG, ENVIRONMENT, RESULTS, read_json

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from experiments.tracking import Record

__all__ = ["MLflow"]

KEPT = "tracking.json"

SECONDS = 5.0
"""Longest that records wait to be sent together."""

PATIENCE = 20.0
"""Longest wait in seconds for another process that looks for its experiment; it takes a moment."""

MOST_PARAMETERS, MOST_TAGS, MOST_METRICS = 100, 100, 1000
"""Of one call."""

LONGEST_NAME, LONGEST_PARAMETER, LONGEST_TAG = 250, 6000, 5000

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Of variables that are not set: nothing is told to anyone else, and a server that is away holds up no training."""


class MLflow:
    """One run of MLflow for a run, the same one whenever it is taken up again.

    It stands under the experiment of the run's name, on the server that ``MLFLOW_TRACKING_URI`` names or else in the
    folder ``mlruns``.

    Args:
        experiment: that is run.
        folder: of the run.
    """

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        self.folder = folder
        uri = os.environ.get("MLFLOW_TRACKING_URI") or Path("mlruns").absolute().as_uri()
        self.client = _client(uri)
        self.run = self._run(experiment.name, uri)
        self._waiting: list[tuple[str, float, int]] = []
        self._sent = time.monotonic()
        self._known: dict[str, int] = {}
        self._warnings = 0
        self._send(params=dotted(experiment.plain()))
        self._tell_provenance()
        self.client.log_artifact(self.run, str(folder / CONFIG))

    def begin(self, training: str, before: Sequence[Record]) -> None:
        """Tell of the records that are not known yet."""
        history = self.client.get_metric_history(self.run, _name(f"{training}/loss"))
        self._known[training] = max((metric.step for metric in history), default=-1)
        for record in before:
            self.record(training, record)

    def record(self, training: str, record: Record) -> None:
        """A point of every curve, sent with the next ones."""
        step = int(record["step"])
        if step <= self._known[training]:
            return
        self._known[training] = step
        self._waiting += [(f"{training}/{key}", float(x), step) for key, x in record.items() if key != "step"]
        if len(self._waiting) >= MOST_METRICS or time.monotonic() - self._sent > SECONDS:
            self._flush()

    def warning(self, line: str) -> None:
        """A tag."""
        self._warnings += 1
        self._send(tags={f"warning {self._warnings}": line})

    def finish(self, results: Mapping[str, Any] | None) -> None:
        """The scores of every model, its status, and the files of the run."""
        self._flush()
        self._tell_provenance()
        if results is None:
            return
        known = self.client.get_run(self.run).data.metrics
        scores = {
            # a name with a slash would be a folder where the name before it is a file
            _name(f"final/{model}/{metric.replace('/', '.')}{'' if key == 'value' else '.' + key}"): numbers[key]
            for model, one in results["models"].items()
            for metric, numbers in one["metrics"].items()
            for key in ("value", "uncertainty", "floor", "floor_uncertainty")
        }
        self._waiting += [(name, value, 0) for name, value in scores.items() if known.get(name) != value]
        self._flush()
        self._send(tags={f"status/{model}": one["status"] for model, one in results["models"].items()})
        self.client.log_artifact(self.run, str(self.folder / RESULTS))

    def close(self, status: str) -> None:
        """Send what waits, and say how the run ended."""
        self._flush()
        self.client.set_terminated(self.run, status)

    def _run(self, name: str, uri: str) -> str:
        """The run that is kept in the folder, if the store still knows it; else a new one."""
        from mlflow.exceptions import MlflowException

        parts = urlsplit(uri)
        where = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # without user and password
        kept = read_json(self.folder / KEPT) if (self.folder / KEPT).is_file() else {}
        before = kept.get("mlflow") if isinstance(kept, dict) else None
        if isinstance(before, dict) and before.get("store") == where:
            try:
                found = self.client.get_run(str(before.get("run_id")))
                if found.info.lifecycle_stage == "active":
                    self.client.update_run(found.info.run_id, status="RUNNING")
                    return str(found.info.run_id)
            except MlflowException as error:
                if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    raise
        run = str(self.client.create_run(self._experiment(name, uri), run_name=self.folder.name).info.run_id)
        write_atomically(self.folder / KEPT, json.dumps({"mlflow": {"store": where, "run_id": run}}).encode())
        return run

    def _experiment(self, name: str, uri: str) -> str:
        """The number of the experiment of this name, made by one of the processes that ask for it at the same time."""
        from mlflow.exceptions import MlflowException

        with _alone_in(uri):
            if (there := self.client.get_experiment_by_name(name)) is not None:
                return str(there.experiment_id)
            try:
                return str(self.client.create_experiment(name))
            except MlflowException as error:
                there = self.client.get_experiment_by_name(name)
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or there is None:
                    raise
                return str(there.experiment_id)

    def _tell_provenance(self) -> None:
        if (self.folder / ENVIRONMENT).is_file():
            record = read_json(self.folder / ENVIRONMENT)
            self._send(tags={key: value for key, value in dotted(record).items() if not key.startswith("sessions")})
            self.client.log_artifact(self.run, str(self.folder / ENVIRONMENT))

    def _flush(self) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        waiting, self._waiting, self._sent = self._waiting, [], time.monotonic()
        for start in range(0, len(waiting), MOST_METRICS):
            part = waiting[start : start + MOST_METRICS]
            self.client.log_batch(self.run, metrics=[Metric(_name(name), x, now, step) for name, x, step in part])

    def _send(self, params: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None) -> None:
        from mlflow.entities import Param, RunTag

        given = [Param(_name(name), _value(x, LONGEST_PARAMETER)) for name, x in (params or {}).items()]
        for start in range(0, len(given), MOST_PARAMETERS):
            self.client.log_batch(self.run, params=given[start : start + MOST_PARAMETERS])
        told = [RunTag(_name(name), _value(x, LONGEST_TAG)) for name, x in (tags or {}).items()]
        for start in range(0, len(told), MOST_TAGS):
            self.client.log_batch(self.run, tags=told[start : start + MOST_TAGS])


def _client(uri: str) -> MlflowClient:
    from mlflow.tracking import MlflowClient

    with _folder_allowed(urlsplit(uri).scheme in ("", "file")):
        return MlflowClient(tracking_uri=uri)


@contextmanager
def _alone_in(uri: str) -> Iterator[None]:
    """A folder as store belongs to this process for a moment: MLflow itself would make two experiments of one name.

    Raises:
        TimeoutError: another process does not let go of it.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        yield
        return
    folder = Path(url2pathname(parts.path))
    folder.mkdir(parents=True, exist_ok=True)
    lock, until = folder / ".qgen.lock", time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with held(lock) as mine:
            if mine:
                yield
                return
    raise TimeoutError(f"{lock}: another process has held it for {PATIENCE:g} s")


@contextmanager
def _folder_allowed(folder: bool) -> Iterator[None]:
    """MLflow takes a folder as its store where this variable says so; what it was comes back."""
    name = "MLFLOW_ALLOW_FILE_STORE"
    before = os.environ.get(name)
    if folder and before is None:
        os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)


def _name(text: str) -> str:
    """A name that MLflow takes.

    >>> _name("seed-0/born, 0.5 %/loss"), _name("final/flow/wasserstein @ energy [1, 2]")
    ('seed-0/born_ 0.5 _/loss', 'final/flow/wasserstein _ energy _1_ 2_')
    """
    return re.sub(r"[^\w\-. /]", "_", text)[:LONGEST_NAME]


def _value(value: Any, longest: int) -> str:
    return str(value)[:longest]
