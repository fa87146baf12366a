"""Groups of samples by the fields of their .json."""

from pathlib import Path

import numpy as np
import pytest

from shard_files import picture, write_set, write_tar
from unclip.data import ShardSet, read_groups
from unclip.errors import DataError

INFOS = [
    {"kind": "cat", "tags": ["a", "b"], "size": 1},
    {"kind": "dog", "tags": ["a", "b"], "size": 1},
    {"kind": "cat", "tags": ["b", "a"], "size": 1.5},
    {"kind": "cat", "tags": ["a", "b"], "size": 1, "more": None},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_set(tmp_path / "set", [3, 1], infos=INFOS)
    return tmp_path / "set"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [(["kind"], [0, 1, 0, 0]), (["tags"], [0, 0, 1, 0]), (["kind", "tags"], [0, 1, 2, 0]), (["size"], [0, 0, 1, 0])],
)
def test_samples_that_agree_in_all_fields_are_a_group(folder: Path, fields: list[str], expected: list[int]) -> None:
    groups = read_groups(folder, fields, ShardSet.open(folder).keys, "x")
    first = [groups.tolist().index(group) for group in groups.tolist()]
    assert first == [expected.index(group) for group in expected]


def test_the_number_of_a_group_follows_from_its_values_alone(folder: Path, tmp_path: Path) -> None:
    keys = ShardSet.open(folder).keys
    groups = read_groups(folder, ["kind"], keys, "x")
    write_set(tmp_path / "other", [2, 2], infos=INFOS[::-1])
    np.testing.assert_array_equal(read_groups(tmp_path / "other", ["kind"], keys, "x"), groups[::-1])
    np.testing.assert_array_equal(read_groups(folder, ["kind"], list(keys)[:0:-1], "x"), groups[:0:-1])
    # A run that was interrupted before an upgrade must resume in the same order.
    assert groups[:2].tolist() == [463713304186893466, 4376085836444953972]


def test_what_lacks_a_field_is_refused_with_the_fields_that_exist(folder: Path, tmp_path: Path) -> None:
    keys = ShardSet.open(folder).keys
    message = (
        r"^data\.balance=\[\"kidn\"\]: .*00000\.tar: 00000 has no 'kidn'; "
        r"did you mean 'kind'\? allowed: kind, size, tags\.$"
    )
    with pytest.raises(DataError, match=message):
        read_groups(folder, ["kidn"], keys, "data.balance")
    with pytest.raises(DataError, match=r"00000 has no 'more'; .*allowed: kind, size, tags\.$"):
        read_groups(folder, ["more"], keys, "x")
    write_set(tmp_path / "plain", [1])
    with pytest.raises(DataError, match=r"00000 has no 'kind'; its \.json holds no fields, or there is none\.$"):
        read_groups(tmp_path / "plain", ["kind"], keys[:1], "x")


def test_samples_outside_the_shards_are_refused(folder: Path) -> None:
    with pytest.raises(
        DataError, match=r"^x reads the \.json .* does not hold y and 1 more of 3 samples; .*data\.folder"
    ):
        read_groups(folder, ["kind"], ["00001", "y", "z"], "x")


def test_a_damaged_json_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"k.png": picture(8), "k.txt": b"x", "k.json": b"{"})
    with pytest.raises(DataError, match=r"a\.tar: k cannot be read"):
        read_groups(tmp_path, ["kind"], ["k"], "x")
