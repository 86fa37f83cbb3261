"""The numbers behind scores by expectation values, as a run's folder holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from annotated_types import MinLen
from pydantic import BaseModel, model_validator

from experiments.scores import checked
from qgen.run import read_json

__all__ = ["read_strings"]

Numbers = Annotated[list[float], MinLen(1)]


class _Numbers(BaseModel):
    values: Numbers
    errors: Numbers


class _Kept(BaseModel):
    """What is drawn of models on bits in the same cells."""

    label: str
    models: list[str]
    n_bits: int
    scales: Numbers
    orders: list[Numbers]
    axis: str
    truth: dict[str, _Numbers]
    floor: dict[str, _Numbers]
    of: dict[str, dict[str, _Numbers]]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.orders) != len(self.scales) or len({len(row) for row in self.orders}) > 1:
            raise ValueError(f"orders are no table of {len(self.scales)} rows, one for each scale")
        for numbers in (self.floor, *self.of.values()):
            for name, true in self.truth.items():
                if name not in numbers or len(numbers[name].values) != len(true.values):
                    raise ValueError(f"{name!r} of a model is not as many numbers as that of the truth")
        return self


def read_strings(path: Path) -> list[dict[str, Any]]:
    """What :meth:`experiments.strings.StringJudging.scores` kept, nothing where the run was not judged so.

    Raises:
        ValueError: the file is damaged.
    """
    found = read_json(path) if path.is_file() else []
    if not isinstance(found, list):
        raise ValueError(f"{path}: damaged (found {type(found).__name__}; expected a list)")
    return [checked(_Kept, one, str(path)).model_dump() for one in found]
