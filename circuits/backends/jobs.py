"""Jobs on machines elsewhere: recorded as soon as they are submitted, tried again, found again after a crash."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["JobError", "JobLog", "JobRecord", "Request"]

_REMEMBERED = 10_000
_LOST = {"ERROR": "failed", "CANCELLED": "cancelled"}


class JobError(OSError):
    """A job failed, was cancelled, or cannot be reached; the message names the job, its status and the reason."""


@dataclass(frozen=True)
class JobRecord:
    """What is known of one job.

    Args:
        id: the job's identifier where it runs.
        device: the device's name.
        time: when it was submitted, ISO 8601 in UTC.
        shots: measurements of each circuit.
        n_circuits: circuits with bound angles in the job.
        status: ``submitted``, ``done``, ``failed`` or ``cancelled``.
        key: what the job computes: a hash of circuits, angles, shots and device, and the number of its occurrence.
        error: why it failed.
    """

    id: str
    device: str
    time: str
    shots: int
    n_circuits: int
    status: str
    key: str
    error: str = ""


@dataclass(frozen=True)
class Request:
    """A job to be done.

    Args:
        content: hash of all that decides the result.
        shots: measurements of each circuit.
        n_circuits: circuits with bound angles.
        submit: starts the job: an object with ``job_id()``, ``status()`` and ``result()``.
        decode: makes arrays of the job's result.
    """

    content: str
    shots: int
    n_circuits: int
    submit: Callable[[], Any]
    decode: Callable[[Any], list[np.ndarray]]


class JobLog:
    """Runs jobs, and forgets neither them nor their results.

    Equal requests that follow each other are different jobs: the first, the second, ... of their content. A process
    that repeats an earlier one's calls in order therefore finds each result where the earlier one left it: results
    in the folder are read, jobs that were submitted are asked for by their identifier, and only the rest is
    submitted. A call that fails leaves its finished jobs for the next call with the same content, with or without a
    folder.

    Args:
        device: the device's name.
        folder: place of the records; None keeps them in memory. One process at a time.
        retries: how often a job that failed, or a connection that broke, is tried again.
        wait: seconds before the first retry; doubled for each further one.
        retrieve: finds a job by its identifier, in another process too; None if that is impossible.

    Raises:
        ValueError: the folder is a file, or ``retries`` or ``wait`` is negative.
    """

    def __init__(
        self,
        device: str,
        folder: str | Path | None = None,
        retries: int = 3,
        wait: float = 5.0,
        retrieve: Callable[[str], Any] | None = None,
    ) -> None:
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries is {retries!r}; an integer of at least 0 is needed")
        if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 <= wait < math.inf:
            raise ValueError(f"retry_wait is {wait!r}; a number of seconds of at least 0 is needed")
        self.device = device
        self.folder = None if folder is None else Path(folder)
        self.retries = retries
        self.wait = wait
        self.retrieve = retrieve
        self._records: dict[str, JobRecord] = {}
        self._earlier: deque[JobRecord] = deque(maxlen=_REMEMBERED)
        self._live: dict[str, Any] = {}
        self._finished: dict[str, list[np.ndarray]] = {}
        self._occurrences: Counter[str] = Counter()
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise ValueError(f"jobs_folder {str(folder)!r} is not a folder") from error
            for path in sorted(self.folder.glob("*.json")):
                self._records[path.stem] = _read_record(path)

    @property
    def records(self) -> list[JobRecord]:
        """The jobs, by the time of their submission."""
        return sorted([*self._earlier, *self._records.values()], key=lambda record: record.time)

    def run(self, requests: Sequence[Request]) -> list[list[np.ndarray]]:
        """The results of the requests, in their order; all are submitted before the first is waited for.

        Raises:
            JobError: a job failed for good. The others' results are kept for the next call.
        """
        counts = Counter(self._occurrences)
        keys = []
        for request in requests:
            keys.append(f"{request.content}-{counts[request.content]}")
            counts[request.content] += 1
        failures: list[JobError] = []
        for key, request in zip(keys, requests, strict=True):
            try:
                self._start(key, request)
            except JobError as error:
                failures.append(error)
                break
        for key, request in zip(keys, requests, strict=True):
            try:
                if key in self._live:
                    self._collect(key, request)
            except JobError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        if self.folder is None:
            self._earlier.extend(self._records.pop(key) for key in keys)
        else:
            self._occurrences = counts
        return [self._finished.pop(key) for key in keys]

    def _start(self, key: str, request: Request) -> None:
        """Sees to it that the request is finished or on its way."""
        if key in self._finished or key in self._live:
            return
        record = self._records.get(key)
        if record is not None and record.status == "done" and self._arrays(key).exists():
            self._finished[key] = _read_arrays(self._arrays(key))
            return
        job = None
        retrieve = self.retrieve
        if record is not None and record.status in ("submitted", "done") and retrieve is not None:
            job = self._persist(key, lambda: _find(retrieve, record.id))
        if job is None:
            self._submit(key, request)
        else:
            self._live[key] = job

    def _submit(self, key: str, request: Request) -> None:
        job = self._persist(key, request.submit)
        if key in self._records:
            self._earlier.append(self._records[key])
        self._live[key] = job
        now = datetime.now(UTC).isoformat()
        self._write(JobRecord(str(job.job_id()), self.device, now, request.shots, request.n_circuits, "submitted", key))

    def _persist(self, key: str, action: Callable[[], Any]) -> Any:
        """The action's value; connections that break are tried again."""
        attempt = 0
        while True:
            try:
                return action()
            except _failures() as error:
                if isinstance(error, ValueError):
                    raise ValueError(_line(error)) from error
                if attempt == self.retries:
                    record = self._records.get(key)
                    what = f"job {record.id} on {self.device}" if record else f"a job for {self.device}"
                    raise JobError(f"{what} cannot be reached: {_line(error)}{self._where()}") from error
                time.sleep(self.wait * 2**attempt)
                attempt += 1

    def _collect(self, key: str, request: Request) -> None:
        """Waits for the request's job."""
        for attempt in range(self.retries + 1):
            if key not in self._live:
                self._submit(key, request)
            job, record = self._live[key], self._records[key]
            try:
                arrays = request.decode(job.result())
            except _failures() as error:
                if isinstance(error, ValueError):
                    raise ValueError(_line(error)) from error
                status, reason = _status(job), _line(error)
                if status in _LOST:
                    del self._live[key]
                    self._write(replace(record, status=_LOST[status], error=reason))
                if status == "CANCELLED" or attempt == self.retries:
                    state = _LOST.get(status, f"does not answer (status {status.lower()})")
                    tries = f" after {attempt + 1} tries" if attempt else ""
                    where = self._where()
                    raise JobError(f"job {record.id} on {self.device} {state}{tries}: {reason}{where}") from error
                time.sleep(self.wait * 2**attempt)
            else:
                if self.folder is not None:
                    _write_atomic(self._arrays(key), partial(_save, arrays=arrays))
                self._finished[key] = arrays
                del self._live[key]
                self._write(replace(record, status="done"))
                return

    def _arrays(self, key: str) -> Path:
        return (self.folder or Path()) / f"{key}.npz"

    def _where(self) -> str:
        return "" if self.folder is None else f" (recorded in {self.folder})"

    def _write(self, record: JobRecord) -> None:
        self._records[record.key] = record
        if self.folder is not None:
            content = json.dumps(asdict(record), indent=1).encode()
            _write_atomic(self.folder / f"{record.key}.json", lambda file: file.write(content))


def _failures() -> tuple[type[Exception], ...]:
    """What goes wrong on the way to a machine and on it; mistakes of the caller are ``ValueError``."""
    from qiskit.exceptions import QiskitError

    return QiskitError, OSError


def _status(job: Any) -> str:
    """The job's status in capitals; ``UNKNOWN`` if the machine does not answer."""
    try:
        status = job.status()
    except _failures():
        return "UNKNOWN"
    return str(getattr(status, "name", status)).upper()


def _line(error: BaseException) -> str:
    """The error's message on one line."""
    message = getattr(error, "message", None) or str(error)
    return " ".join(str(message).split()).strip("'\"") or type(error).__name__


def _read_record(path: Path) -> JobRecord:
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict) or set(content) != {field.name for field in fields(JobRecord)}:
            raise ValueError("its keys are not those of a job's record")
        for name, value in content.items():
            if type(value) is not (int if name in ("shots", "n_circuits") else str):
                raise ValueError(f"{name} is {value!r}")
        if content["key"] != path.stem:
            raise ValueError(f"it is that of {content['key']!r}")
    except ValueError as error:
        raise ValueError(f"{path} is not the record of a job: {error}") from error
    return JobRecord(**content)


def _read_arrays(path: Path) -> list[np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return [arrays[name] for name in arrays.files]
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({_line(error)}); without it, the machine is asked again") from error


def _save(file: Any, arrays: Sequence[np.ndarray]) -> None:
    np.savez(file, *arrays)


def _write_atomic(path: Path, write: Callable[[Any], object]) -> None:
    """A file that is there whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _find(retrieve: Callable[[str], Any], identifier: str) -> Any:
    """The job, or None if the service no longer knows it."""
    try:
        return retrieve(identifier)
    except _failures() as error:
        if "NotFound" in type(error).__name__:
            return None
        raise
