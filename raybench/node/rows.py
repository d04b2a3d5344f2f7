"""Per-request rows as Parquet bytes: nodes send bytes, the driver writes them."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from raybench.records import RequestRow


def parquet_bytes(rows: Sequence[RequestRow]) -> bytes:
    """One row a request, columns as the fields of `RequestRow`."""
    columns = {name: [getattr(row, name) for row in rows] for name in RequestRow.model_fields}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()
