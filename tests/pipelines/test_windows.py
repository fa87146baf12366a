"""Windows: what they hold, where they lie, and that those of a canvas cover it outward from what is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unclip.pipelines.tasks.inpaint import window_around
from unclip.pipelines.tasks.outpaint import windows_outward
from unclip.pipelines.tasks.painting import Box


@pytest.mark.parametrize(
    ("missing", "picture", "expected"),
    [
        ((10, 10, 12, 12), (32, 32), (0, 0, 32, 32)),  # a picture of the drawn size is its own window
        ((0, 0, 32, 32), (32, 32), (0, 0, 32, 32)),
        ((40, 50, 42, 52), (100, 100), (25, 35, 57, 67)),  # no smaller than what is drawn
        ((0, 98, 1, 100), (100, 100), (0, 68, 32, 100)),  # moved into the picture
        ((30, 40, 58, 50), (100, 100), (21, 22, 66, 67)),  # 1.5 times 28 and its two neighbours
        ((1, 1, 3, 3), (20, 10), (0, 0, 10, 10)),  # no larger than a small picture for what is small itself
        ((2, 0, 9, 10), (20, 10), (0, -3, 15, 12)),  # larger than the shorter side where it must be
        ((0, 0, 50, 37), (50, 37), (0, -7, 50, 43)),  # and no larger than the picture
        ((0, 0, 1, 1), (1, 1), (0, 0, 1, 1)),
    ],
)
def test_a_window_by_hand(missing: Box, picture: tuple[int, int], expected: Box) -> None:
    assert window_around(missing, picture, (32, 32)) == expected


lengths = st.integers(1, 400)


@given(lengths, lengths, st.sampled_from([(32, 32), (256, 256), (64, 32), (48, 64)]), st.data())
def test_a_window_holds_what_is_missing_and_its_neighbours(
    width: int, height: int, drawn: tuple[int, int], data: st.DataObject
) -> None:
    left, top = (data.draw(st.integers(0, length - 1)) for length in (width, height))
    right, bottom = data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height))
    box = window_around((left, top, right, bottom), (width, height), drawn)
    assert box[0] <= max(left - 1, 0)
    assert box[1] <= max(top - 1, 0)
    assert box[2] >= min(right + 1, width)
    assert box[3] >= min(bottom + 1, height)
    sides = box[2] - box[0], box[3] - box[1]
    # The shape is that of what is drawn, but for rounding up.
    assert abs(sides[0] * drawn[1] - sides[1] * drawn[0]) < max(drawn)
    for start, side, length in zip(box[:2], sides, (width, height), strict=True):
        assert 0 <= start <= length - side or (side >= length and abs(2 * start + side - length) <= 1)


@settings(max_examples=100)
@given(st.integers(1, 120), st.integers(1, 120), st.integers(1, 60), st.booleans(), st.data())
def test_windows_cover_a_canvas_outward(
    width: int, height: int, side: int, is_small: bool, data: st.DataObject
) -> None:
    """Each lies inside; half of it or more is known or painted already if the picture is no smaller than it."""
    side = min(side, width, height)
    span = 1 if is_small else side
    left, top = (data.draw(st.integers(0, length - span)) for length in (width, height))
    right, bottom = data.draw(st.integers(left + span, width)), data.draw(st.integers(top + span, height))
    known = np.zeros((height, width), bool)
    known[top:bottom, left:right] = True
    for x0, y0, x1, y1 in windows_outward((width, height), (left, top, right, bottom), side):
        assert 0 <= x0 <= width - side
        assert 0 <= y0 <= height - side
        assert (x1 - x0, y1 - y0) == (side, side)
        there = known[y0:y1, x0:x1]
        assert is_small or there.mean() >= 0.5 or side == 1
        there[:] = True
    assert known.all()


@pytest.mark.parametrize(
    ("canvas", "known", "side", "first"),
    [
        ((100, 60), (50, 20, 54, 24), 32, (36, 6, 68, 38)),  # a small picture lies in the middle of it
        ((8, 8), (2, 2, 5, 5), 8, (0, 0, 8, 8)),
        ((42, 32), (0, 0, 30, 32), 32, (10, 0, 42, 32)),  # not 2 pixels first and 10 afterwards
        ((52, 32), (10, 0, 40, 32), 32, (0, 0, 32, 32)),
        ((70, 20), (10, 0, 30, 20), 20, (10, 0, 30, 20)),  # what is known already
    ],
)
def test_the_first_window(canvas: tuple[int, int], known: Box, side: int, first: Box) -> None:
    assert windows_outward(canvas, known, side)[0] == first


def test_steps_are_even() -> None:
    """21 pixels on the right take three windows of 20, of 7 new pixels each; on the left 10 take one."""
    starts = [box[0] for box in windows_outward((81, 20), (10, 0, 60, 20), 20)]
    assert starts == [10, 20, 30, 40, 0, 47, 54, 61]
