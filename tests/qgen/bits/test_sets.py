"""Sets of bits: sparse storage, signs of bit strings, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.bits import BitSets
from qgen.bits.sets import DENSE

SETS = st.integers(1, 9).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.sets(st.integers(0, n - 1)), min_size=1, max_size=12))
)


@settings(max_examples=60, deadline=None)
@given(SETS)
def test_sparse_and_dense_are_the_same(drawn: tuple[int, list[set[int]]]) -> None:
    n, members = drawn
    sets = BitSets.of(n, [tuple(one) for one in members])
    assert [set(one) for one in sets] == members
    assert sets.sizes.tolist() == [len(one) for one in members]
    assert list(BitSets.from_dense(sets.dense())) == list(sets)
    order = torch.arange(len(sets) - 1, -1, -1)
    assert list(sets.take(order)) == list(sets)[::-1]
    bits = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (7, n)))
    assert torch.equal(sets.signs(bits), (1 - 2 * ((sets.dense().long() @ bits.T) % 2)).float())


@pytest.mark.parametrize("per_set", [1, 20])
def test_signs_of_few_and_of_many_members(per_set: int) -> None:
    """Counted over members, or as a product of matrices where that is faster."""
    rng = torch.Generator().manual_seed(per_set)
    sets = BitSets.of(1000, [torch.randperm(1000, generator=rng)[:per_set].tolist() for _ in range(30)])
    assert (len(sets) * 1000 > DENSE * len(sets.members)) == (per_set == 1)
    bits = torch.randint(2, (50, 1000), generator=rng, dtype=torch.uint8)
    assert torch.equal(sets.signs(bits), (1 - 2 * ((sets.dense().long() @ bits.long().T) % 2)).float())


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([(0,), (1, 4)], "gate 1 has bit 4; the 4 bits are 0 to 3"),
        ([(-1,)], "gate 0 has bit -1; the 4 bits are 0 to 3"),
        ([(2, 2)], r"gate 0 is \[2, 2\]; a bit may be in it once only"),
    ],
)
def test_members_beyond_the_bits_are_refused(sets: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BitSets.of(4, sets, "gate")


def test_equal_and_empty_sets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gate 2 is \[0, 1\], as is gate 0; each may be there once"):
        BitSets.of(3, [(0, 1), (2,), (1, 0)]).check_distinct("gate")
    with pytest.raises(ValueError, match="gate 1 is empty"):
        BitSets.of(3, [(0,), ()]).check_distinct("gate")


def test_data_that_are_not_bits_are_refused() -> None:
    sets = BitSets.of(2, [(0,)])
    with pytest.raises(ValueError, match=r"bits row 1, bit 0 is 2; allowed are 0 and 1"):
        sets.signs(torch.tensor([[0, 1], [2, 0]]))
    with pytest.raises(ValueError, match=r"bits have shape \(1, 3\); expected \(m, 2\)"):
        sets.signs(torch.zeros(1, 3))
