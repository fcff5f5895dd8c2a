"""Which rows the demo deletes: one that takes no tuning, and one that takes the tuning of its cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from small_system import System, samples

from cluster.demo import CONFIG, rows_to_delete
from lmeraser.config import load_config
from lmeraser.data import open_source

ROWS = samples(0, 90)


def prompts(system: System) -> dict[str, str | None]:
    return {entry.key: entry.prompt_object for entry in system.newest().clusters}


def test_the_first_row_leaves_every_prompt_and_the_second_takes_one_tuning(system_of: Callable[..., System]) -> None:
    system = system_of("coreset", len(ROWS))
    pipeline = system.pipeline()
    outside, inside = rows_to_delete(pipeline, pipeline.rows(ROWS))
    before = prompts(system)
    assert (outside.in_coreset, inside.in_coreset) == (False, True)
    system.delete(outside.sample_id)
    assert prompts(system) == before
    assert system.newest().rows == len(ROWS) - 1
    system.delete(inside.sample_id)
    after = prompts(system)
    assert after.keys() == before.keys()
    assert sum(after[key] != before[key] for key in before) == 1


def test_of_clusters_that_lie_in_their_coresets_one_row_is_chosen(system_of: Callable[..., System]) -> None:
    pipeline = system_of("coreset", len(ROWS)).pipeline()
    tuning = replace(pipeline.config.tuning, coreset_rows=len(ROWS))
    pipeline = replace(pipeline, config=replace(pipeline.config, tuning=tuning))
    (choice,) = rows_to_delete(pipeline, pipeline.rows(ROWS))
    assert choice.in_coreset and choice.sample_id in {row.sample_id for row in ROWS}


@pytest.mark.slow
def test_no_digit_of_the_demo_is_in_both_splits() -> None:
    config = load_config(CONFIG)
    assert config.test is not None
    train, test = (
        {row.subject_id for row in source.samples(source.labels)}
        for source in (open_source(config.private), open_source(config.test))
    )
    assert train and test and not train & test
