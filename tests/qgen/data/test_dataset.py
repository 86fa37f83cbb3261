from __future__ import annotations

import math

import pytest
import torch

from qgen.data import Dataset, Feature

AB = (Feature("a", "GeV"), Feature("b"))


def table(n: int = 100, seed: int = 0) -> Dataset:
    values = torch.arange(2.0 * n).reshape(n, 2)
    return Dataset(values, AB, conditions=values[:, :1] + 1, condition_features=(Feature("c"),), seed=seed)


def test_splits_part_the_events() -> None:
    data = table()
    parts = [data.train, data.validation, data.test]
    assert [len(p) for p in parts] == [60, 15, 25]
    rows = torch.cat([p.column("a") for p in parts])
    assert sorted(rows.tolist()) == data.column("a").tolist()
    assert torch.equal(table().train.samples, data.train.samples)
    assert not torch.equal(table(seed=1).train.samples, data.train.samples)
    for part in parts:
        assert torch.equal(part.conditions[:, 0], part.column("a") + 1)


def test_transforms_are_fitted_on_train_alone_and_kept() -> None:
    data = table()
    values = data.transform(data.train.samples)
    torch.testing.assert_close(values.mean(0), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(values.std(0, correction=0), torch.ones(2, dtype=torch.float64))
    assert data.test.transform is data.transform
    assert data.with_samples(data.samples + 1).transform is data.transform
    assert data.select("b").transform is not data.transform


def test_select_and_column() -> None:
    data = table(3)
    assert data.select("b", "a").samples.tolist() == [[1.0, 0.0], [3.0, 2.0], [5.0, 4.0]]
    assert data.column("c").tolist() == [1.0, 3.0, 5.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: table().column("z"), r"column 'z' is unknown; Known: a, b, c"),
        (lambda: table().select("z"), r"feature 'z' is unknown; Known: a, b"),
        (lambda: table().split("training"), r"split 'training' is unknown"),
        (lambda: Dataset(torch.ones(3, 3), AB), r"samples have shape \(3, 3\); expected \(N, 2\)"),
        (lambda: Dataset(torch.ones(0, 2), AB), r"at least one event"),
        (lambda: table().select("a", "a"), r"2 columns have the name 'a'"),
        (lambda: Dataset(torch.ones(3, 2), AB, torch.ones(3, 1), (Feature("b"),)), r"2 columns have the name 'b'"),
        (lambda: Dataset(torch.tensor([[1.0, math.nan]]), AB), r"samples row 0, column 'b': nan is not finite"),
        (lambda: Dataset(torch.ones(3, 2), AB, torch.ones(2, 1), (Feature("c"),)), r"2 rows of conditions for 3"),
    ],
)
def test_misuse_is_one_clear_line(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
