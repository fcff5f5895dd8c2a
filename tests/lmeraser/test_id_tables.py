"""Tables of ids as other programs write them: what an id is, and what is refused by the number of its line."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmeraser.errors import DataError
from lmeraser.id_tables import TableFormat, format_of, read_ids

IDS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20),
    min_size=1,
    max_size=20,
    unique=True,
)


def parquet(**columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        (b"id\n0042\n42\n", ["0042", "42"]),
        (b"\xef\xbb\xbfid\r\na\r\nb\r\n", ["a", "b"]),
        ("\ufeffid\r\nZoë\r\n".encode("utf-16-le"), ["Zoë"]),
        (
            b'sample_id,reason\n"Doe, John",art 17\n"say ""hi""",x\n"two\nlines",y\n',
            ["Doe, John", 'say "hi"', "two\nlines"],
        ),
        (b"id;name\n1e5;x\n=1+1;y\n", ["1e5", "=1+1"]),
        (b"id\tname\n lead\tx\ntrail \ty\n", [" lead", "trail "]),
        (b"Subject_ID\nu1\n\nu2\nu1\n", ["u1", "u2"]),
        (b"name,ID\nx,a\ny,b", ["a", "b"]),
    ],
)
def test_csv_as_programs_write_it(data: bytes, ids: list[str]) -> None:
    assert read_ids(data, "csv") == ids


def test_json_lines_and_parquet_as_programs_write_them() -> None:
    assert read_ids(b'{"id": "0042", "x": 1}\n\n{"id": 42}\r\n{"id": 12345678901234567890}', "jsonl") == [
        *("0042", "42", "12345678901234567890")
    ]
    assert read_ids(b'"a"\n7\n"b c"\n', "jsonl") == ["a", "7", "b c"]
    assert read_ids(parquet(id=["0042", "42", "a"], other=[1, 2, 3]), "parquet") == ["0042", "42", "a"]
    assert read_ids(parquet(subject_id=[7, 2**60]), "parquet") == ["7", str(2**60)]
    assert read_ids(parquet(id=[b"a", "é".encode()]), "parquet") == ["a", "é"]


def test_a_column_is_named() -> None:
    data = b"sample_id,subject_id\ns1,u1\ns2,u2\n"
    assert read_ids(data, "csv", "subject_id") == ["u1", "u2"]
    for column, message in ((None, "name the one with the ids"), ("Subject_id", "'Subject_id' is not one of them")):
        with pytest.raises(DataError, match=message):
            read_ids(data, "csv", column)
    assert read_ids(b'{"person": "u1"}', "jsonl", "person") == ["u1"]
    assert read_ids(parquet(person=["u1"]), "parquet", "person") == ["u1"]


@pytest.mark.parametrize(
    ("data", "table_format", "message"),
    [
        (b"", "csv", "holds no id"),
        (b"id\n", "csv", "holds no id"),
        (b"s1\ns2\n", "csv", "first line must name them"),
        (b"id,x\na,1\nb\n,2\nc,3,4\n", "csv", r"3 line.* line 3 has 1 field.*line 4 has an id that.*line 5 has 3"),
        (b'id\na\n"two\nlines",x\nb,\n', "csv", "line 3 has 2 field.*line 5 has 2"),
        (b'id\na\n"open\n', "csv", "line 3 cannot be read"),
        (b"id\n" + b"x" * 1025, "csv", "line 2 has an id that has 1025 characters"),
        ("id\nZoë\n".encode("latin-1"), "csv", "line 2 of the table is not UTF-8"),
        ("id\na\n".encode("utf-16-le"), "csv", "NUL"),
        (b'{"id": "a"}\n{"id": 1.5}\n{"id": true}\n{}\nno\n{"id": 1, "id": 2}', "jsonl",
         r"5 line\(s\).*line 2 has 1.5.*line 3 has True.*line 4 has no 'id'.*line 5 is not .*line 6 .*appears twice"),
        (b'[1]\nnull', "jsonl", r"line 1 has \[1\].*line 2 has None"),
        (b"no parquet", "parquet", "is not Parquet"),
        (parquet(id=["a", None, ""]), "parquet", "row 2 has None.*row 3 has an id that is empty"),
        (parquet(id=[1.5]), "parquet", "row 1 has 1.5"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_named_by_its_number(data: bytes, table_format: TableFormat, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_ids(data, table_format)


def test_many_malformed_lines_are_counted_and_the_first_are_named() -> None:
    with pytest.raises(DataError, match=r"200 line.*line 2 .*line 11 .*and 190 more"):
        read_ids(b"id,x\n" + b"a\n" * 200, "csv")


def test_a_million_ids_are_read_and_one_more_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeraser.id_tables.MAX_TABLE_IDS", 100)
    data = b"id\n" + b"".join(b"%d\n" % number for number in range(100))
    assert len(read_ids(data + b"99\n", "csv")) == 100
    with pytest.raises(DataError, match="more than 100 ids: divide it"):
        read_ids(data + b"100\n", "csv")


@given(IDS)
def test_every_id_comes_back_as_it_was_written(ids: list[str]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["id", "n"], *([name, "x"] for name in ids)])
    assert read_ids(text.getvalue().encode(), "csv") == ids
    assert read_ids("\n".join(json.dumps({"id": name}) for name in ids).encode(), "jsonl") == ids
    assert read_ids(parquet(id=ids), "parquet") == ids


def test_the_format_follows_from_the_name() -> None:
    names = ("a.CSV", "b.tsv", "c.jsonl", "d.ndjson", "s3://bucket/e.parquet")
    assert [format_of(name) for name in names] == ["csv", "csv", "jsonl", "jsonl", "parquet"]
    with pytest.raises(DataError, match=r"ends with .xlsx; allowed are .csv"):
        format_of("a.xlsx")
