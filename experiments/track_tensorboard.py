"""A run as TensorBoard shows it: event files in the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.scores import DISCRETISED_TRUTH

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from experiments.tracking import Record

__all__ = ["TensorBoard"]

FOLDER = "tensorboard"

FLUSH_SECONDS = 10


class TensorBoard:
    """Event files under ``tensorboard/seed-0/model``; those of a training that goes on are written anew.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._open: tuple[str, SummaryWriter] | None = None

    def begin(self, training: str, before: Sequence[Record]) -> None:
        """Remove the event files of the training and write its records so far."""
        self._close()
        for old in (self.folder / training).glob("events.out.tfevents.*"):
            old.unlink()
        for record in before:
            self.record(training, record)

    def record(self, training: str, record: Record) -> None:
        """A point of every curve."""
        step = int(record["step"])
        for name, value in record.items():
            if name != "step":
                self._writer(training).add_scalar(name, value, step)

    def warning(self, line: str) -> None:
        """A text beside the curves of the training that goes on; one of the judging stands in the results."""
        if self._open is not None:
            self._open[1].add_text("warning", line)

    def finish(self, results: Mapping[str, Any] | None) -> None:
        """The metrics of every training, as curves of one point."""
        for model, scores in (results or {}).get("models", {}).items():
            for seed, one in scores["seeds"].items() if scores["kind"] != DISCRETISED_TRUTH else ():
                for metric, numbers in one["metrics"].items():
                    self._writer(f"seed-{seed}/{model}").add_scalar(f"final/{metric}", numbers["value"], 0)

    def close(self, status: str) -> None:
        """Write what is not written yet."""
        self._close()

    def _writer(self, training: str) -> SummaryWriter:
        if self._open is None or self._open[0] != training:
            from torch.utils.tensorboard import SummaryWriter

            self._close()
            self._open = (training, SummaryWriter(str(self.folder / training), flush_secs=FLUSH_SECONDS))
        return self._open[1]

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
