"""Parquet files of strangers, read in batches: a small file can unpack to any size."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.wording import printable

if TYPE_CHECKING:
    from pyarrow import RecordBatch

MAX_UNPACKED = 2**29
"""Largest size of a column without its compression, and of the values in the rows of all columns
that are read, in bytes: a small file can repeat a long text in every row."""

MAX_VALUES = 2**26
"""Largest number of values in a column, whose cells may be lists."""

_ROWS_AT_ONCE = 2**12


def read_batches(
    path: Path, names: Sequence[str], *, max_bytes: int | None = None
) -> "Iterator[RecordBatch]":
    """Yield some columns of a Parquet file, some rows at a time, with texts as dictionaries.

    Args:
        path: File.
        names: Names of the columns.
        max_bytes: Limit in place of `MAX_UNPACKED`.

    Raises:
        ValueError: If the columns would fill the memory, or the file is damaged.
        OSError: If it cannot be read.
    """
    from pyarrow import parquet

    most = MAX_UNPACKED if max_bytes is None else max_bytes
    with contextlib.closing(parquet.ParquetFile(path)) as file:
        leaves = [file.schema.column(index) for index in range(len(file.schema))]
        _require_moderate(file.metadata, names, most)
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    n_bytes = 0
    # As dictionaries, so that a text that is repeated a million times is in memory once.
    with contextlib.closing(parquet.ParquetFile(path, read_dictionary=texts)) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(dict.fromkeys(names))):
            columns = [_used(column) for column in batch.columns]
            for name, column in zip(batch.schema.names, columns, strict=True):
                n_bytes += _n_bytes(column)
                if n_bytes > most:
                    raise _too_large(name, most)
            yield type(batch).from_arrays(columns, batch.schema.names)


def _require_moderate(metadata: Any, names: Sequence[str], most: int) -> None:
    """Refuse columns that would fill the memory, by what the file states."""
    n_bytes: Counter[str] = Counter()
    n_values: Counter[str] = Counter()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            name = chunk.path_in_schema.partition(".")[0]
            n_bytes[name] += chunk.total_uncompressed_size
            n_values[name] += chunk.num_values
    for name in names:
        # The part before a dot, as above: a name may have one.
        first = name.partition(".")[0]
        if n_bytes[first] > most or n_values[first] > MAX_VALUES:
            raise _too_large(name, most)


def _too_large(name: str, most: int) -> ValueError:
    return ValueError(
        f"its column '{printable(name)}' unpacks to more than {most:,} bytes or {MAX_VALUES:,} "
        "values"
    )


def _used(column: Any) -> Any:
    """Return a column; a dictionary without the texts of other rows, which may be a million."""
    import pyarrow.compute as pc

    if not hasattr(column, "dictionary"):
        return column
    used = pc.unique(column.indices).drop_null()
    indices = pc.index_in(column.indices, value_set=used)
    return type(column).from_arrays(indices, column.dictionary.take(used))


def _n_bytes(column: Any) -> int:
    """Return the bytes of the values in a column, repeated texts each time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = column.flatten()
    if pa.types.is_dictionary(column.type):
        lengths = pc.binary_length(column.dictionary).cast(pa.int64())
        return pc.sum(lengths.take(column.indices)).as_py() or 0
    return column.nbytes  # type: ignore[no-any-return]
