"""Reading a source takes memory in proportion to one image, whatever the file says of how many there are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmeraser.data import Sample, sample_chunks

IMAGE_BYTES = 1_000_000
ROWS = 600
# More than the interpreter, Arrow and a few images take, and far less than the 600 MB of all images.
MOST_MB = 150
READ = """
import re, sys
from pathlib import Path
from lmeraser.config import ColumnsConfig
from lmeraser.data.parquet import ParquetSource
from lmeraser.data.sample import SourceReport

def most_kb():
    # The peak of this process alone; getrusage counts that of the process that started it, too.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before = most_kb()
rows = sum(1 for _ in ParquetSource(sys.argv[1], "", ColumnsConfig(), None, SourceReport()).samples(("a", "b")))
print(rows, (most_kb() - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["bytes", "struct", "large", "view"])
def test_a_small_file_of_large_repeated_images_takes_little_memory(tmp_path: Path, layout: str) -> None:
    image = b"x" * IMAGE_BYTES
    kind = {"large": pa.large_binary(), "view": pa.binary_view()}.get(layout, pa.binary())
    repeated = pa.array([image] * 8, kind)
    column = pa.StructArray.from_arrays([repeated], ["bytes"]) if layout == "struct" else repeated
    path = tmp_path / "a.parquet"
    table = pa.table({"image": column, "label": [0] * 8, "sample_id": [str(row) for row in range(8)]})
    with pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=["image", "image.bytes"]) as writer:
        writer.write_table(pa.concat_tables([table] * (ROWS // 8)).combine_chunks())
    assert path.stat().st_size < 100_000 and pq.read_metadata(path).num_row_groups == 1
    read = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    rows, used_mb = map(int, read.stdout.split())
    assert rows == ROWS
    assert used_mb < MOST_MB


def test_chunks_are_bounded_by_rows_and_by_bytes_and_hold_every_row_once() -> None:
    sizes = [1, 1, 1, 1, 1, 60, 50, 1, 200, 1]
    rows = [Sample(f"s{index}", None, 0, bytes(size)) for index, size in enumerate(sizes)]
    chunks = [[len(row.image) for row in chunk] for chunk in sample_chunks(rows, 3, most_bytes=100)]
    assert chunks == [[1, 1, 1], [1, 1, 60], [50, 1], [200], [1]]
    assert list(sample_chunks([], 3)) == []
