"""What a scan for residue recognises: an id and an image in each form in which it may have been written down."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from lmeraser.proof.residue.files import UnpackError, entries, packed_otherwise, pieces
from lmeraser.proof.residue.needles import Needles, held_elsewhere, regions

FIRST = "the id in place 1 of the list"
PLAIN, FOREIGN = "patient-0417", "José-1"
NOISE = np.random.default_rng(7).integers(0, 256, 4000, np.uint8).tobytes()
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda data: data,
    "base64": base64.b64encode,
    "base64 after one byte": lambda data: base64.b64encode(b"." + data),
    "base64 after two bytes": lambda data: base64.b64encode(b".." + data),
    "base64 without padding": lambda data: base64.b64encode(data).rstrip(b"="),
    "URL-safe base64": base64.urlsafe_b64encode,
    "base64 in lines": lambda data: base64.encodebytes(b" " * 100 + data),
    "base64 in lines of a JSON string": lambda data: json.dumps(
        base64.encodebytes(b" " * 100 + data).decode()
    ).encode(),
    "a data URL": lambda data: b"src=data:image/png;base64," + base64.b64encode(data),
    "base64 behind a letter": lambda data: b"Q" + base64.b64encode(data),
    "hex": lambda data: data.hex().encode(),
    "hex in capitals behind a digit": lambda data: b"0" + data.hex().upper().encode(),
    "bytes as Python shows them": lambda data: repr(b"\x01" + data).encode(),
    "percent encoding": lambda data: quote(data).encode(),
    "percent encoding of every byte": lambda data: b"".join(b"%%%02x" % byte for byte in data),
}


def found(data: bytes, *ids: str, known: tuple[str, ...] = ()) -> tuple[set[str], set[str]]:
    return Needles(ids, {}, known).in_data(data)


def in_file(data: bytes, needles: Needles) -> set[str]:
    return {what for piece in pieces(io.BytesIO(data), needles.reach) for what in needles.in_data(piece)[0]}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [PLAIN, FOREIGN])
def test_an_id_is_found_in_every_form(name: str, form: str) -> None:
    data = b"first line\n" + FORMS[form](name.encode()) + b"\nlast line"
    assert found(data, "somebody else", name)[0] == {"the id in place 2 of the list"}
    assert found(data, "somebody else")[0] == set()


@pytest.mark.parametrize("form", FORMS)
def test_an_image_and_a_part_of_it_are_found_in_every_form(form: str) -> None:
    needles = Needles([], dict.fromkeys(regions(NOISE, 3), "image 1"), [])
    for part in (NOISE, NOISE[:1500], NOISE[2500:]):
        assert needles.in_data(b"{" + FORMS[form](part) + b"}")[0] == {"image 1"}
    assert needles.in_data(FORMS[form](NOISE[::-1]))[0] == set()


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"id": FOREIGN}),
        json.dumps(json.dumps({"id": FOREIGN})),
        json.dumps({"id": FOREIGN}).replace("00e9", "00E9"),
        "Jose\u0301-1 was here",
        quote(FOREIGN, safe="").replace("%C3%A9", "%c3%a9"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_letters_beyond_ascii_are_found_however_they_are_escaped_or_composed(text: str, encoding: str) -> None:
    assert found(text.encode(encoding), FOREIGN)[0] == {FIRST}


def test_an_id_beyond_the_first_plane_is_found_in_json() -> None:
    assert found(json.dumps("photo \U0001f600 of May").encode(), "photo \U0001f600")[0] == {FIRST}


def test_an_id_in_utf_16_is_found_at_odd_positions_too() -> None:
    for start in (b"", b"x"):
        for encoding in ("utf-16-le", "utf-16-be"):
            assert found(start + f"hello {PLAIN}!".encode(encoding), PLAIN)[0] == {FIRST}
    assert found("user ab1 asked".encode("utf-16"), "ab1")[0] == {FIRST}


@pytest.mark.parametrize("form", [*FORMS])
def test_an_id_that_begins_a_remaining_one_is_excused_in_every_form_and_only_there(form: str) -> None:
    write = FORMS[form]
    assert found(b"<" + write(b"patient-04178") + b">", PLAIN, known=("patient-04178",))[0] == set()
    assert found(b"<" + write(b"patient-041789") + b">", PLAIN, known=("patient-04178",))[0] == {FIRST}
    both = b"<" + write(b"patient-04178") + b"> <" + write(PLAIN.encode()) + b">"
    assert found(both, PLAIN, known=("patient-04178",))[0] == {FIRST}


def test_a_remaining_id_is_excused_in_a_line_of_a_json_string() -> None:
    for before in ("one\n", "\u00e9", "\x00"):
        text = json.dumps(before + "patient-04178").encode()
        assert found(text, PLAIN, known=("patient-04178",))[0] == set()
        assert found(text, PLAIN)[0] == {FIRST}


def test_an_id_with_blanks_is_distinguished_from_a_longer_one_that_remains() -> None:
    assert found(b"asked: Jane Doe 10.", "Jane Doe 1", known=("Jane Doe 10",))[0] == set()
    assert found(b"asked: Jane Doe 1.", "Jane Doe 1", known=("Jane Doe 10",))[0] == {FIRST}


@pytest.mark.parametrize("text", [b"user ab1 asked", b'{"id":"ab1"}', b"deleted ab1.", b"ab1: deleted", b"(ab1)"])
def test_a_short_id_counts_as_a_word(text: bytes) -> None:
    assert found(text, "ab1")[0] == {FIRST}


@pytest.mark.parametrize("text", [b"xab1", b"ab12", b"ab1.png", b"/ab1/", b"\0 ab1 ", base64.b64encode(b" ab1 ")])
def test_a_short_id_counts_as_nothing_else(text: bytes) -> None:
    assert found(text, "ab1")[0] == set()


@pytest.mark.parametrize("name", ["7", "20261128001", "12-34"])
def test_an_id_without_a_letter_is_doubtful_and_not_a_finding(name: str) -> None:
    assert found(f"pid {name} ended".encode(), name) == (set(), {FIRST})
    assert found(f"pid 9{name} ended".encode(), name) == (set(), set())
    assert Needles([name], {}, []).in_data(f"pid {name}".encode(), plain_numbers=False) == (set(), set())


def test_parts_that_a_remaining_image_has_too_are_not_traces() -> None:
    preamble, own = NOISE[:1000], NOISE[1000:]
    parts = regions(preamble, 1) + regions(own, 1)
    assert held_elsewhere(parts, [preamble + b"another picture"]) == set(regions(preamble, 1))


def test_rotated_logs_are_unpacked_even_if_several_follow_each_other() -> None:
    needles = Needles([PLAIN], {}, [])
    logs = gzip.compress(b"." * 400_000) + gzip.compress(b"x" * 100_000 + PLAIN.encode())
    assert PLAIN.encode() not in logs
    assert in_file(logs, needles) == {FIRST}
    assert in_file(logs + b"\0" * 512, needles) == {FIRST}


def test_a_damaged_or_endless_gzip_file_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeraser.proof.residue.files.MAX_UNPACKED", 1 << 20)
    packed = gzip.compress(bytes(NOISE) * 50)
    for data in (gzip.compress(bytes(3 << 20)), packed[:3000] + b"\xff" * 500 + packed[3500:]):
        with pytest.raises(UnpackError):
            list(pieces(io.BytesIO(data), 100))


def test_other_kinds_of_compression_are_named() -> None:
    assert packed_otherwise(bz2.compress(b"x")) == "bzip2"
    assert packed_otherwise(zlib.compress(b"x")) is None


@pytest.mark.parametrize("place", range(900, 1100, 7))
def test_an_id_is_found_and_distinguished_from_a_longer_one_wherever_a_file_is_cut(
    place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmeraser.proof.residue.files.PIECE", 1000)
    needles = Needles([PLAIN], {}, ["patient-04178"])
    assert in_file(b"." * place + b" " + PLAIN.encode() + b" " + b"." * 3000, needles) == {FIRST}
    assert in_file(b"word " * (place // 5) + b"patient-04178 " + b"word " * 600, needles) == set()


def test_names_links_and_what_is_behind_them_are_given_once(tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    (inner / "folder").mkdir(parents=True)
    outer.mkdir()
    (outer / "behind").write_text("x")
    (inner / "file").write_text("x")
    (inner / "link").symlink_to(outer)
    (inner / "again").symlink_to(outer / "behind")
    (inner / "loop").symlink_to(inner)
    (inner / "gone").symlink_to(tmp_path / PLAIN)
    os.mkfifo(inner / "pipe")
    given = {str(entry.path.relative_to(inner)): entry for entry in entries(inner)}
    assert set(given) == {"again", "file", "folder", "gone", "link", "link/behind", "loop", "pipe"}
    assert given["gone"].target == str(tmp_path / PLAIN)
    assert [name for name, entry in given.items() if entry.readable] == ["again", "file"]
    assert not any(entry.trouble for entry in given.values())


def test_the_name_of_a_file_is_searched() -> None:
    needles = Needles([PLAIN, "ab1", "7", "red/q0.png"], {}, ["patient-04178"])
    assert needles.in_path(f"logs/{PLAIN}.png") == ({FIRST}, set())
    assert needles.in_path("logs/patient-04178.png") == (set(), set())
    assert needles.in_path("ab1.jpg") == ({"the id in place 2 of the list"}, set())
    assert needles.in_path("7.txt") == (set(), {"the id in place 3 of the list"})
    assert needles.in_path("data/red/q0.png") == ({"the id in place 4 of the list"}, set())
    assert needles.in_path(os.fsdecode(b"\xff/nothing")) == (set(), set())


def test_pixels_are_found_in_a_bitmap_and_raw() -> None:
    from lmeraser.proof.residue.appearance import _pixels

    pixels = np.random.default_rng(3).integers(0, 256, (24, 32, 3), np.uint8)
    png, bitmap = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(png, format="PNG")
    Image.fromarray(pixels).save(bitmap, format="BMP")
    needles = Needles([], dict.fromkeys(_pixels(png.getvalue()), "pixels of image 1"), [])
    for data in (bitmap.getvalue(), pixels.tobytes(), pixels.transpose(2, 0, 1).tobytes()):
        assert needles.in_data(data)[0] == {"pixels of image 1"}
    flat = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(flat, format="PNG")
    assert list(_pixels(flat.getvalue())) == []
