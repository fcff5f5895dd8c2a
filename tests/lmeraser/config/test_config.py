"""Configuration files: variables, what is refused and how the message helps, and the method's canonical bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmeraser.config import (
    BackboneConfig,
    Config,
    PartitionConfig,
    PromptConfig,
    StateConfig,
    TuningConfig,
    load_config,
    state_config_from_json,
)
from lmeraser.errors import ConfigError

LABELS = ("cat", "dog")

# One value on each side of every bound that the documentation of the options gives.
BOUNDS = [
    ("backbone.image_px", (16, 1024), (15, 1025), "greater than or equal to 16|less than or equal to 1024"),
    ("backbone.device", ("cpu", "cuda"), ("tpu", 1), "'cpu' or 'cuda'"),
    ("partition.anchors", (2, 65536), (1, 65537), "greater than or equal to 2|less than or equal to 65536"),
    ("partition.routing_block", (1, 5), (-1, 0), "greater than or equal to 1"),
    ("partition.routing_pool", ("patch", "class"), ("mean",), "'patch' or 'class'"),
    ("partition.max_cluster_rows", (1,), (0,), "greater than or equal to 1"),
    ("partition.min_tuned_rows", (1,), (0,), "greater than or equal to 1"),
    ("prompt.kind", ("pad", "token"), ("frame",), "'pad' or 'token'"),
    ("prompt.pad_px", (1,), (0,), "greater than or equal to 1"),
    ("prompt.tokens", (1, 512), (0, 513), "greater than or equal to 1|less than or equal to 512"),
    ("prompt.depth", (0, 3), (-1,), "greater than or equal to 0"),
    ("tuning.epochs", (1,), (0,), "greater than or equal to 1"),
    ("tuning.batch_rows", (1,), (0,), "greater than or equal to 1"),
    ("tuning.learning_rate", (0.5, 1), (0, -1.0), "greater than 0"),
    ("tuning.head_learning_rate", (0.5,), (0.0,), "greater than 0"),
    ("tuning.weight_decay", (0, 0.5), (-0.1,), "greater than or equal to 0"),
    ("tuning.shift_px", (0, 2), (-1,), "greater than or equal to 0"),
    ("tuning.flip", (True, False), ("perhaps",), "valid boolean"),
    ("heads.head_dim", (8, 4096), (7, 4097, 8.5), "equal to 8|equal to 4096|valid integer"),
    ("pretrain.epochs", (1,), (0,), "greater than or equal to 1"),
    ("pretrain.max_failures", (0,), (-1,), "greater than or equal to 0"),
    ("serving.specialist_weight", (0, 1, 0.3), (-0.1, 1.1), "equal to 0|equal to 1"),
    ("serving.temperature", (0.01,), (0,), "greater than 0"),
    ("lease_s", (0.1, 60), (0, 0.09, 61), "greater than or equal to 0.1|less than or equal to 60"),
    ("serving.max_batch_images", (1, 4096), (0, 4097), "equal to 1|equal to 4096"),
    ("serving.replicas", (1,), (0,), "greater than or equal to 1"),
    ("serving.gpus_per_replica", (0.05, 1), (0, 1.5), "greater than 0|less than or equal to 1"),
    ("owners.gpus_per_owner", (0.05, 1), (0, 1.5), "greater than 0|less than or equal to 1"),
    ("owners.max_resident_owners", (1, 1000), (0,), "greater than or equal to 1"),
    ("owners.idle_s", (0.5,), (0,), "greater than 0"),
    ("seed", (0, -3, 7), ("seven",), "valid integer"),
    ("labels", (["a", "b"], []), ([1, 2], "cat"), "valid string|valid tuple"),
]


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, value: Any, variables: Mapping[str, str] | None = None) -> Config:
    return load_config(written(folder, yaml.safe_dump(value)), variables)


def nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def test_an_empty_mapping_gives_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "{}")) == Config()


def test_values_in_the_file_replace_the_defaults_and_leave_the_others(tmp_path: Path) -> None:
    config = loaded(tmp_path, {"seed": 5, "tuning": {"epochs": 3}, "labels": ["cat", "dog"]})
    assert config == Config(seed=5, tuning=TuningConfig(epochs=3), labels=LABELS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_folder_is_not_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path)


def test_a_file_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(written(tmp_path, "seed: [1, 2"))


@pytest.mark.parametrize("text", ["- seed\n", "seed", "7", "{? [1, 2] : 3}"])
def test_yaml_that_is_not_a_mapping_of_names_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(written(tmp_path, text))


def test_yaml_cannot_create_python_objects(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(written(tmp_path, "store: !!python/object/apply:os.getcwd []"))


@pytest.mark.parametrize(
    "key", ["sead", "backbone.pixels", "partition.k", "tuning.passes", "serving.port", "private.folder"]
)
def test_an_unknown_key_is_named(tmp_path: Path, key: str) -> None:
    value = nested(key, 1)
    if "private" in value:
        value["private"]["kind"] = "digits"
    with pytest.raises(ConfigError, match=rf"{key}: Unexpected"):
        loaded(tmp_path, value)


@pytest.mark.parametrize(("key", "allowed"), [(key, value) for key, good, _, _ in BOUNDS for value in good])
def test_a_value_at_its_bound_is_accepted(tmp_path: Path, key: str, allowed: Any) -> None:
    value: Any = loaded(tmp_path, nested(key, allowed))
    for name in key.split("."):
        value = getattr(value, name)
    assert value == (tuple(allowed) if isinstance(allowed, list) else allowed)


@pytest.mark.parametrize(
    ("key", "value", "message"), [(key, value, message) for key, _, bad, message in BOUNDS for value in bad]
)
def test_a_bad_value_is_named_with_its_key_and_what_is_allowed(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        loaded(tmp_path, nested(key, value))
    assert f"{key}" in str(caught.value)
    assert repr(value[0] if isinstance(value, list) else value) in str(caught.value)


def test_all_bad_values_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backbone\.image_px.*tuning\.epochs"):
        loaded(tmp_path, {"backbone": {"image_px": 3}, "tuning": {"epochs": 0}})


@pytest.mark.parametrize("kind", ["parquet", "image_folder", "torchvision"])
def test_a_source_on_disk_needs_a_path(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"private.*{kind} needs path"):
        loaded(tmp_path, {"private": {"kind": kind}})


def test_a_torchvision_source_needs_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs dataset"):
        loaded(tmp_path, {"private": {"kind": "torchvision", "path": "/d"}})


def test_a_source_needs_a_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"private\.kind.*required"):
        loaded(tmp_path, {"private": {"path": "/d"}})


@pytest.mark.parametrize("rows", [0, -1])
def test_a_source_of_no_rows_is_refused(tmp_path: Path, rows: int) -> None:
    with pytest.raises(ConfigError, match=r"max_rows.*greater than or equal to 1"):
        loaded(tmp_path, {"private": {"kind": "digits", "max_rows": rows}})


def test_a_pad_prompt_enters_at_the_pixels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"prompt\.depth is 2.*only 0 is allowed"):
        loaded(tmp_path, {"prompt": {"kind": "pad", "depth": 2}})


@pytest.mark.parametrize("tuning", [TuningConfig(shift_px=1), TuningConfig(flip=True)])
def test_augmentation_cannot_be_combined_with_a_deep_prompt(tuning: TuningConfig) -> None:
    deep = Config(prompt=PromptConfig(depth=2), tuning=tuning)
    with pytest.raises(ConfigError, match=r"prompt\.depth 2"):
        deep.state(LABELS)
    assert replace(deep, prompt=PromptConfig()).state(LABELS).tuning == tuning
    assert replace(deep, tuning=TuningConfig()).state(LABELS).prompt.depth == 2


def test_labels_of_the_data_are_used_where_the_file_lists_none() -> None:
    assert Config().state(("x", "y")).labels == ("x", "y")
    assert Config(labels=LABELS).state(("x", "y")).labels == LABELS


def test_a_repeated_label_is_named() -> None:
    with pytest.raises(ConfigError, match="labels repeats cat, dog"):
        Config().state(("dog", "cat", "bird", "cat", "dog"))


@pytest.mark.parametrize("other", ["red ", " red", "\tred", "red\u00a0", "red\ufeff", "red\n"])
def test_labels_that_look_the_same_are_refused(other: str) -> None:
    with pytest.raises(ConfigError, match=r"labels holds .*red.* and .*red.*, which look the same") as caught:
        Config(labels=("red", "blue", other)).state(())
    assert repr(other) in str(caught.value)
    assert Config(labels=("blue", other)).state(()).labels == ("blue", other)


def test_one_name_in_two_unicode_forms_is_a_repeated_label() -> None:
    with pytest.raises(ConfigError, match="labels repeats Caf\u00e9"):
        Config(labels=("Caf\u00e9", "Cafe\u0301")).state(())


@pytest.mark.parametrize("empty", ["", " ", "\u200b"])
def test_a_label_without_a_name_is_refused(empty: str) -> None:
    with pytest.raises(ConfigError, match="labels holds the empty name"):
        Config(labels=("red", empty)).state(())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"private": {"kind": "parquet"}}, r"^config\.yaml: private: a source of kind parquet needs path$"),
        ({"serving": {"images": {"max_bytes": 9}}}, r"^config\.yaml: serving\.images is set: write images next to"),
    ],
)
def test_an_error_does_not_use_the_words_of_the_library(tmp_path: Path, value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, value)
    assert re.search(message, str(caught.value).removeprefix(f"{tmp_path}/"))


@pytest.mark.parametrize("labels", [(), ("cat",)])
def test_fewer_than_two_labels_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        Config().state(labels)


def other_config() -> StateConfig:
    return Config(
        seed=9,
        backbone=BackboneConfig(weights="trained", image_px=32, model_args={"embed_dim": 64, "depth": 2}),
        partition=PartitionConfig(anchors=16, routing_pool="class"),
        prompt=PromptConfig(kind="pad", pad_px=3),
        tuning=TuningConfig(learning_rate=1, flip=True),
    ).state(("naïve", "猫"))


@pytest.mark.parametrize("config", [Config().state(LABELS), other_config()])
def test_a_state_configuration_survives_json(config: StateConfig) -> None:
    again = state_config_from_json(json.loads(config.canonical()))
    assert again == config
    assert again.canonical() == config.canonical()


def test_clusters_below_the_bound_get_no_specialist() -> None:
    config = Config(partition=PartitionConfig(min_tuned_rows=5)).state(LABELS)
    assert [config.tunes(rows) for rows in (0, 4, 5, 6)] == [False, False, True, True]


def test_canonical_bytes_are_sorted_json_without_spaces() -> None:
    data = other_config().canonical()
    expected = json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert data == expected.encode()
    assert json.loads(data)["labels"] == ["naïve", "猫"]


def test_canonical_bytes_do_not_depend_on_how_the_file_is_written(tmp_path: Path) -> None:
    one = load_config(written(tmp_path, "seed: 3\ntuning: {learning_rate: 1, epochs: 2}\nlabels: [a, b]"))
    other = load_config(written(tmp_path, "labels:\n- a\n- b\ntuning: {epochs: 2, learning_rate: 1.0}\nseed: 3"))
    assert one.state(()).canonical() == other.state(()).canonical()


@pytest.mark.parametrize(
    "value",
    [
        {"seed": 1},
        {"labels": ["dog", "cat"]},
        {"backbone": {"image_px": 32}},
        {"backbone": {"model_args": {"depth": 3}}},
        {"partition": {"anchors": 7}},
        {"prompt": {"tokens": 3}},
        {"tuning": {"weight_decay": 0}},
        {"heads": {"head_dim": 16}},
    ],
)
def test_canonical_bytes_depend_on_everything_that_determines_the_state(tmp_path: Path, value: dict[str, Any]) -> None:
    assert loaded(tmp_path, value).state(LABELS).canonical() != Config().state(LABELS).canonical()


@pytest.mark.parametrize(
    "value",
    [
        {"store": "/elsewhere"},
        {"private": {"kind": "glyphs", "max_rows": 3}},
        {"pretrain": {"epochs": 1}},
        {"serving": {"replicas": 3}},
        {"serving": {"autoscaling": {"max_replicas": 3}, "gpus_per_replica": 0.5}},
    ],
)
def test_canonical_bytes_do_not_depend_on_what_may_change_from_run_to_run(
    tmp_path: Path, value: dict[str, Any]
) -> None:
    assert loaded(tmp_path, value).state(LABELS).canonical() == Config().state(LABELS).canonical()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"store\.json"),
        ([], r"store\.json"),
        ({}, "labels: Field required"),
        ({"labels": ["a", "b"], "colour": 1}, "colour: Unexpected"),
        ({"labels": ["a", "a"]}, "labels repeats a"),
        ({"labels": ["a", "b"], "tuning": {"epochs": 0}}, r"tuning\.epochs.*equal to 1 \(got 0\)"),
    ],
)
def test_a_value_that_is_not_a_state_configuration_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        state_config_from_json(value)
