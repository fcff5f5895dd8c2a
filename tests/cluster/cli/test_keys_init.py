"""Keys are made on the command line."""

from __future__ import annotations

from pathlib import Path

from command_line import Run


def test_keys_are_made_once_and_only_their_owner_reads_them(lmeraser: Run, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "keys"
    made = lmeraser("keys", "init", "--keys", folder, "--json")
    files = {name: Path(path) for name, path in made.json.items()}
    assert (made.code, set(files)) == (0, {"hash_key", "signing_key", "public_key"})
    assert {files[name].stat().st_mode & 0o777 for name in ("hash_key", "signing_key")} == {0o600}
    before = {path: path.read_bytes() for path in files.values()}
    again = lmeraser("keys", "init", "--keys", folder)
    assert (again.code, again.out) == (1, "")
    assert str(folder) in again.err
    assert {path: path.read_bytes() for path in files.values()} == before
