"""Places for variables in a configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmeraser.config import BackboneConfig, SourceConfig, load_config
from lmeraser.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    (folder / "config.yaml").write_text(text)
    return folder / "config.yaml"


def test_variables_replace_their_placeholders(tmp_path: Path) -> None:
    text = (
        "store: ${home}/store\nbackbone: {weights: '${data}/w.safetensors'}\n"
        'test: {kind: parquet, path: "${data}/t", split: test}\n'
    )
    config = load_config(written(tmp_path, text), {"data": "/d", "home": "/h", "unused": "x"})
    assert config.store == "/h/store"
    assert config.backbone == BackboneConfig(weights="/d/w.safetensors")
    assert config.test == SourceConfig(kind="parquet", path="/d/t", split="test")


def test_a_doubled_dollar_stands_for_one(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "store: /a$$b"), {}).store == "/a$b"


@pytest.mark.parametrize("variables", [None, {}, {"other": "x"}])
def test_a_missing_variable_is_named(tmp_path: Path, variables: dict[str, str] | None) -> None:
    path = written(tmp_path, "store: ${data}/store")
    with pytest.raises(ConfigError, match=r"\$\{data\}.*--data") as caught:
        load_config(path, variables)
    assert str(path) in str(caught.value)


def test_a_lone_dollar_is_refused(tmp_path: Path) -> None:
    for text in ("/a$", "a$5", "cost $-1"):
        with pytest.raises(ConfigError, match=r"write \$\$") as caught:
            load_config(written(tmp_path, f"store: {text}"), {})
        assert repr(text) in str(caught.value)


def test_for_an_unknown_variable_the_error_says_what_is_allowed(tmp_path: Path) -> None:
    for text in ("${HOME}/store", "$HOME/store"):
        with pytest.raises(ConfigError, match=r"HOME.*allowed is \$\{data\}"):
            load_config(written(tmp_path, f"store: {text}"), {"data": "/d"})


def test_a_dollar_in_a_comment_has_no_meaning(tmp_path: Path) -> None:
    text = "# costs $5, or ${more} in $HOME\nstore: ${data}/a # $\n"
    assert load_config(written(tmp_path, text), {"data": "/d"}).store == "/d/a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nlabels: [a, b]\nseed: 2\n", "the key 'seed' in line 3 repeats that of line 1"),
        ("tuning:\n  epochs: 1\n  'epochs': 2\n", "the key 'epochs' in line 3 repeats that of line 2"),
        ("tuning: {epochs: 1}\ntuning: {batch_rows: 2}", "the key 'tuning' in line 2 repeats that of line 1"),
    ],
)
def test_a_repeated_key_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"config\.yaml is not YAML: {message}"):
        load_config(written(tmp_path, text))


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    text = "private: &rows {kind: digits, split: train}\ntest: {<<: *rows, split: test}\n"
    assert load_config(written(tmp_path, text)).test == SourceConfig("digits", split="test")


@pytest.mark.parametrize("text", ["", "# store: /a\n", "---\n", "[]", "false", "0", "''", "null", "- store: /a\n"])
def test_a_file_without_a_mapping_is_not_the_defaults(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml is not a configuration: write keys"):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize("text", ["seed: &a [*a]", "&a {seed: *a}", f"seed: {'[' * 2000}{']' * 2000}"])
def test_a_value_that_contains_itself_or_is_nested_too_deeply_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read: a value in it contains itself"):
        load_config(written(tmp_path, text))


@pytest.mark.parametrize("text", ["seed: 2026-13-45", "seed: !!int ''", "seed: !!bool x", "seed: !!float x"])
def test_a_value_that_does_not_fit_its_tag_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml is not YAML"):
        load_config(written(tmp_path, text))


def test_the_value_of_a_variable_is_plain_text(tmp_path: Path) -> None:
    data = "/d: #1 {x} $5 'y'"
    config = load_config(written(tmp_path, "private: {kind: parquet, path: ${data}/p}\n"), {"data": data})
    assert config.private.path == f"{data}/p"
