"""The results of a sweep as one tidy table, put together from the folders of its jobs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.sweep.grid import plain_value
from experiments.sweep.points import SEED
from qgen.files import write_atomically
from qgen.run import RESULTS, read_json

if TYPE_CHECKING:
    import pyarrow as pa

    from experiments.sweep.reading import Job

__all__ = ["CSV", "PARQUET", "tidy", "write_table"]

PARQUET, CSV = "results.parquet", "results.csv"

FAILED_ROW = "failed: "
"""What stands before the error in the ``status`` of a failed job."""

AT_A_TIME = 500
"""Jobs whose results are held as Python's values."""


def tidy(jobs: Sequence[Job], paths: Sequence[str]) -> pa.Table:
    """One row for each job, model, seed and metric; one for a model without metrics, and one for a failed job.

    Args:
        jobs: of a sweep; those that are neither finished nor failed have no rows.
        paths: that are varied, a column each; ``seed`` is a column in any case.

    Returns:
        The columns ``job``, the paths, ``model``, ``kind``, ``seed``, ``metric``, ``value``, ``uncertainty``,
        ``floor``, ``floor_uncertainty``, ``n_parameters``, ``train_seconds`` and ``status``. A varied value that is
        neither number nor word is its JSON.
    """
    import pyarrow as pa

    varied = {path: _column_type([job.point.get(path) for job in jobs]) for path in paths if path != SEED}
    schema = pa.schema(
        [
            ("job", pa.string()),
            *varied.items(),
            ("model", pa.string()),
            ("kind", pa.string()),
            ("seed", pa.int64()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("uncertainty", pa.float64()),
            ("floor", pa.float64()),
            ("floor_uncertainty", pa.float64()),
            ("n_parameters", pa.int64()),
            ("train_seconds", pa.float64()),
            ("status", pa.string()),
        ]
    )
    batches = []
    for start in range(0, len(jobs), AT_A_TIME):
        rows = [row for job in jobs[start : start + AT_A_TIME] for row in _rows(job, varied)]
        columns = {name: [row.get(name) for row in rows] for name in schema.names}
        batches.append(pa.RecordBatch.from_pydict(columns, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


def write_table(folder: Path, table: pa.Table) -> None:
    """Write ``results.parquet`` and ``results.csv``, each as a whole or not at all.

    Raises:
        OSError: the folder takes no files.
    """
    import pyarrow.csv
    import pyarrow.parquet

    for name, write in ((PARQUET, pyarrow.parquet.write_table), (CSV, pyarrow.csv.write_csv)):
        stream = io.BytesIO()
        write(table, stream)
        write_atomically(folder / name, stream.getvalue())


def _rows(job: Job, varied: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    point = {path: _as(kind, job.point.get(path)) for path, kind in varied.items()}
    start = {"job": job.id, **point}
    if job.status == "failed":
        yield {**start, "seed": job.point.get(SEED), "status": FAILED_ROW + job.error}
    if job.status != "finished":
        return
    for model, found in read_json(job.folder / RESULTS)["models"].items():
        for seed, one in found["seeds"].items():
            facts = {
                **start,
                "model": model,
                "kind": one["kind"],
                "seed": int(seed),
                "n_parameters": one["n_parameters"],
                "train_seconds": one["train_seconds"],
                "status": one["status"],
            }
            for metric, score in one["metrics"].items():
                numbers = {key: score.get(key) for key in ("value", "uncertainty", "floor", "floor_uncertainty")}
                yield {**facts, "metric": metric, **numbers}
            if not one["metrics"]:
                yield facts


def _column_type(values: Sequence[Any]) -> pa.DataType:
    """The type that holds all values of a path: numbers if they are numbers, else text."""
    import pyarrow as pa

    known = {type(value) for value in values if value is not None}
    if known == {bool}:
        return pa.bool_()
    if known == {int} and all(abs(value) < 2**63 for value in values if value is not None):
        return pa.int64()
    if known and known <= {int, float}:
        return pa.float64()
    return pa.string()


def _as(kind: pa.DataType, value: Any) -> Any:
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_string(kind):
        return plain_value(value)
    return float(value) if pa.types.is_floating(kind) else value
