"""Mean and deviation by parts: those of the whole, also where the mean is large."""

import pytest
import torch

from unclip.data.embedding_shards import Moments, merge_all


@pytest.mark.parametrize("sizes", [[7], [1, 1, 5], [3, 0, 4], [0, 0, 7]])
def test_parts_give_mean_and_deviation_of_the_whole(sizes: list[int]) -> None:
    vectors = torch.randn(7, 5, dtype=torch.float64) + 1e6
    merged = merge_all(map(Moments.of, vectors.split(sizes)), 5)
    assert merged.count == 7
    torch.testing.assert_close(merged.mean, vectors.mean(dim=0), rtol=1e-15, atol=0)
    # Of numbers around 1e6 in float64 a deviation of 1 is known to 1e-10 at best.
    torch.testing.assert_close(merged.std, vectors.std(dim=0), rtol=1e-9, atol=0)


def test_nothing_and_one_vector_have_no_deviation() -> None:
    assert Moments.of(torch.empty(0, 3)).std.tolist() == [0.0] * 3
    one = Moments.of(torch.full((1, 3), 0.1))
    assert (one.count, one.std.tolist()) == (1, [0.0] * 3)
