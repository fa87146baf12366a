"""Small sets of embeddings as other programs write them."""

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet


def write_arrays(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    """`folder/name/name_<number>.npy` for each array."""
    (folder / name).mkdir(parents=True)
    for number, array in arrays.items():
        np.save(folder / name / f"{name}_{number}.npy", array)


def write_tables(folder: Path, tables: dict[str, dict[str, list[str | None]]]) -> None:
    """`folder/metadata/metadata_<number>.parquet` for each table."""
    (folder / "metadata").mkdir(parents=True)
    for number, columns in tables.items():
        pyarrow.parquet.write_table(pyarrow.table(columns), folder / "metadata" / f"metadata_{number}.parquet")
