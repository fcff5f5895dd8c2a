"""Each baseline deletes as it states: exact methods equal a fresh fit, and the others are shown to differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import ne

import numpy as np
import pytest
import torch
from plain_head import GRID, log_odds
from small_system import LABELS, System, samples

from lmeraser.baselines import (
    ClusterPrompts,
    PublishedConfig,
    PublishedLMEraser,
    Retraining,
    SamplePrompt,
    SharedHeadOnly,
    Sisa,
    measured,
)
from lmeraser.baselines.shared_head_only import Depths, raw_features
from lmeraser.config import ServingConfig, TuningConfig
from lmeraser.learning.backbone import Features
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.heads import probabilities
from lmeraser.learning.tuning import TuningRows
from lmeraser.proof.recompute import fresh_leaves
from lmeraser.state.digests import state_leaf
from lmeraser.state.pipeline import Pipeline
from serving.predictor import Predictor, ScoreRequest
from serving.snapshot import load_snapshot

pytestmark = pytest.mark.slow
ROWS = 40
Method = Retraining | Sisa | PublishedLMEraser | SharedHeadOnly | SamplePrompt | ClusterPrompts
PUBLISHED = PublishedConfig(clusters=3, epochs=2, pad_px=4, batch_rows=8)


@pytest.fixture(scope="module")
def pipeline(built: Callable[[str, int], System]) -> Pipeline:
    pipeline = built("token", 0).pipeline()
    # The linear head starts at zero, so the prompt does not change before the second step: hence small batches.
    return replace(pipeline, config=replace(pipeline.config, tuning=TuningConfig(epochs=4, batch_rows=2)))


def rows_of(pipeline: Pipeline, keep: Callable[[int], bool] = lambda _: True, count: int = ROWS) -> TuningRows:
    rows = [row for number, row in enumerate(samples(0, count)) if keep(number)]
    images_N3PP = pipeline.decode([row.image for row in rows])
    return TuningRows(tuple(row.sample_id for row in rows), images_N3PP, np.array([row.label for row in rows]))


def with_public_prompt(pipeline: Pipeline, images_N3PP: np.ndarray) -> Features:
    assert pipeline.public_prompt is not None
    pixels_N3PP = pipeline.backbone.normalise(torch.from_numpy(images_N3PP))
    prompts_N = pipeline.public_prompt.to(pixels_N3PP).expand(len(images_N3PP), *pipeline.public_prompt.shape)
    return pipeline.prompt_kind.features(pixels_N3PP, prompts_N)


def images_of(pipeline: Pipeline) -> np.ndarray:
    return pipeline.decode([row.image for row in samples(500, 520)])


def test_retraining_without_a_row_is_a_fresh_fit_of_the_others(pipeline: Pipeline) -> None:
    remaining = Retraining.fit(pipeline, rows_of(pipeline)).without(["s7"])
    fresh = Retraining.fit(pipeline, rows_of(pipeline, lambda number: number != 7))
    assert np.array_equal(remaining.scores(images_of(pipeline)), fresh.scores(images_of(pipeline)))
    assert remaining.part.prompt is not None and fresh.part.prompt is not None
    assert torch.equal(remaining.part.prompt, fresh.part.prompt)


@pytest.mark.parametrize("removed", [(7, 8), (1,), (2, 3, 4, 5)])
def test_sisa_without_rows_is_a_fresh_fit_of_the_others(pipeline: Pipeline, removed: tuple[int, ...]) -> None:
    sisa = Sisa.fit(pipeline, rows_of(pipeline), shards=3, slices=3)
    remaining = sisa.without([f"s{number}" for number in removed])
    fresh = Sisa.fit(pipeline, rows_of(pipeline, lambda number: number not in removed), shards=3, slices=3)
    for one, other in zip(remaining.shards, fresh.shards, strict=True):
        assert one is not None and other is not None
        assert one.rows.sample_ids == other.rows.sample_ids
        for checkpoint, fresh_checkpoint in zip(one.checkpoints, other.checkpoints, strict=True):
            assert checkpoint is not None and fresh_checkpoint is not None
            assert torch.equal(checkpoint, fresh_checkpoint)
    assert np.array_equal(remaining.scores(images_of(pipeline)), fresh.scores(images_of(pipeline)))
    assert not np.array_equal(remaining.scores(images_of(pipeline)), sisa.scores(images_of(pipeline)))


def test_sisa_leaves_other_shards_and_earlier_checkpoints_alone(pipeline: Pipeline) -> None:
    sisa = Sisa.fit(pipeline, rows_of(pipeline), shards=3, slices=3)
    costs: dict[int, list[float]] = {}
    for name in rows_of(pipeline).sample_ids[:16]:
        remaining, cost = measured(pipeline.backbone, partial(sisa.without, [name]))
        same = [one is other for one, other in zip(sisa.shards, remaining.shards, strict=True)]
        assert same.count(False) == 1
        touched = same.index(False)
        before, after = sisa.shards[touched], remaining.shards[touched]
        assert before is not None and after is not None
        kept = [one is other for one, other in zip(before.checkpoints, after.checkpoints, strict=True)]
        costs.setdefault(kept.count(True), []).append(cost.row_passes)
    # A row of a later slice costs less.
    assert set(costs) == {0, 1, 2}
    assert np.mean(costs[2]) < np.mean(costs[1]) < np.mean(costs[0])


def test_a_shard_of_sisa_without_rows_does_not_count_in_the_mean(pipeline: Pipeline) -> None:
    sisa = Sisa.fit(pipeline, rows_of(pipeline), shards=3, slices=2)
    emptied = sisa.shards[1]
    assert emptied is not None
    remaining = sisa.without(emptied.rows.sample_ids)
    assert remaining.shards[1] is None
    parts = [shard.part.scores(pipeline, images_of(pipeline)) for shard in (sisa.shards[0], sisa.shards[2]) if shard]
    parts_NC = [probabilities(scores, ServingConfig().temperature) for scores in parts]
    assert np.array_equal(remaining.scores(images_of(pipeline)), (parts_NC[0] + parts_NC[1]) / 2)


def test_the_shared_head_only_is_what_plain_numpy_gives(pipeline: Pipeline) -> None:
    shared = SharedHeadOnly.fit(pipeline, rows_of(pipeline)).without(["s3", "s9"])
    images_N3PP = rows_of(pipeline, lambda number: number not in (3, 9)).images_N3PP
    labels_N = rows_of(pipeline, lambda number: number not in (3, 9)).labels_N
    with torch.no_grad():
        raw_NF, raw_MF = (
            with_public_prompt(pipeline, images).head_NF.double().cpu().numpy()
            for images in (images_N3PP, images_of(pipeline))
        )
    map_ = pipeline.feature_map
    grid_NH, grid_MH = (np.round((raw - map_.mean_F) @ map_.projection_FH * GRID) for raw in (raw_NF, raw_MF))
    expected_MC = log_odds(grid_MH, grid_NH, labels_N, len(LABELS), shared.head.penalty)
    scores_MC = shared.scores(images_of(pipeline))
    # Another batch shape may round a feature to the next point of the grid.
    np.testing.assert_allclose(scores_MC - scores_MC[:, :1], expected_MC, atol=0.01)


def without_twice(shared: SharedHeadOnly) -> SharedHeadOnly:
    return shared.without(["s3", "nobody"]).without(["s9", "s3"])


def test_the_shared_head_only_forgets_exactly_and_passes_no_row(pipeline: Pipeline) -> None:
    depths: tuple[Depths, ...] = ("last", "several")
    for depth in depths:
        public_NF = raw_features(pipeline, rows_of(pipeline, count=96).images_N3PP, depth)
        mapped = replace(pipeline, feature_map=FeatureMap.fit(public_NF, 32))
        shared = SharedHeadOnly.fit(mapped, rows_of(pipeline), depth)
        remaining, cost = measured(pipeline.backbone, partial(without_twice, shared))
        fresh = SharedHeadOnly.fit(mapped, rows_of(pipeline, lambda number: number not in (3, 9)), depth)
        assert cost.row_passes == 0
        assert np.array_equal(remaining.scores(images_of(pipeline)), fresh.scores(images_of(pipeline)))


def test_a_sample_prompt_without_rows_is_a_fresh_fit_of_the_others(pipeline: Pipeline) -> None:
    sampled = SamplePrompt.fit(pipeline, rows_of(pipeline), tuned_rows=10)
    start = sampled.pipeline.public_prompt
    assert start is not None and not torch.equal(sampled.prompt, start)
    kept = 0
    for number in range(12):
        remaining, cost = measured(pipeline.backbone, partial(sampled.without, [f"s{number}"]))
        fresh = SamplePrompt.fit(pipeline, rows_of(pipeline, partial(ne, number)), tuned_rows=10)
        assert torch.equal(remaining.prompt, fresh.prompt)
        assert np.array_equal(remaining.scores(images_of(pipeline)), fresh.scores(images_of(pipeline)))
        kept += cost.row_passes == 0
    # Some of these twelve were in the sample, and some were not.
    assert 0 < kept < 12


def test_last_depth_has_fewer_features_than_several(pipeline: Pipeline) -> None:
    images_N3PP = images_of(pipeline)
    last_NF = raw_features(pipeline, images_N3PP, "last")
    several_NF = raw_features(pipeline, images_N3PP, "several")
    # Two patches per side: four cells.
    assert (last_NF.shape[1], several_NF.shape[1]) == (2 * 32, (4 * 2 + 4) * 32)
    assert np.array_equal(several_NF[:, -64:], last_NF)


def test_published_lmeraser_changes_the_rows_own_cluster_alone(pipeline: Pipeline) -> None:
    published = PublishedLMEraser.fit(pipeline, PUBLISHED, rows_of(pipeline))
    owner = published.cluster_N[7]
    remaining = published.without(["s7"])
    assert "s7" not in remaining.rows.sample_ids
    assert len(remaining.cluster_N) == ROWS - 1
    for cluster in range(3):
        same = torch.equal(remaining.prompts_K3PP[cluster], published.prompts_K3PP[cluster])
        assert same == (cluster != owner)
    kept = [
        int(name[1:])
        for name, place in zip(remaining.rows.sample_ids, remaining.cluster_N, strict=True)
        if place == owner
    ]
    alone = PublishedLMEraser.fit(
        pipeline, replace(PUBLISHED, clusters=1), rows_of(pipeline, lambda number: number in kept)
    )
    assert torch.equal(remaining.prompts_K3PP[owner], alone.prompts_K3PP[0])


def test_published_lmeraser_is_not_exact(pipeline: Pipeline) -> None:
    """The rows of one cluster influence the prompts of the others and the prototypes."""
    published = PublishedLMEraser.fit(pipeline, PUBLISHED, rows_of(pipeline))
    remaining = published.without(["s7"])
    fresh = PublishedLMEraser.fit(pipeline, PUBLISHED, rows_of(pipeline, lambda number: number != 7))
    assert not np.array_equal(remaining.prototypes_KW, fresh.prototypes_KW)
    # Even with the same prototypes, the joint batches and schedule keep the row's influence on other clusters.
    alone = replace(fresh, prototypes_KW=remaining.prototypes_KW)
    assert np.array_equal(remaining.cluster_N, fresh.cluster_N)
    others = [cluster for cluster in range(3) if cluster != published.cluster_N[7]]
    assert not any(torch.equal(remaining.prompts_K3PP[cluster], alone.prompts_K3PP[cluster]) for cluster in others)


def test_published_lmeraser_routes_by_its_prototypes_and_learns(pipeline: Pipeline) -> None:
    config = replace(PUBLISHED, epochs=20)
    published = PublishedLMEraser.fit(pipeline, config, rows_of(pipeline))
    assert len(set(published.cluster_N.tolist())) > 1
    right = published.scores(published.rows.images_N3PP).argmax(axis=1) == published.rows.labels_N
    assert right.mean() > 0.8


def test_published_lmeraser_accepts_one_cluster_and_an_emptied_one(pipeline: Pipeline) -> None:
    one = PublishedLMEraser.fit(pipeline, replace(PUBLISHED, clusters=1), rows_of(pipeline))
    assert one.prototypes_KW.shape[0] == 1
    remaining = one.without(one.rows.sample_ids)
    assert not remaining.prompts_K3PP.any()
    assert not remaining.scores(images_of(pipeline)).any()


def test_cluster_prompts_have_the_state_that_verify_recomputes(system_of: Callable[..., System]) -> None:
    system = system_of("token", 0)
    pipeline = system.pipeline()
    rows = samples(0, 60)
    leaves = fresh_leaves(pipeline, system.manifest, system.hash_key, rows[:50])
    ours = ClusterPrompts.fit(pipeline, pipeline.rows(rows)).without([row.sample_id for row in rows[50:]])
    digests: dict[str, str] = {}
    for key, specialist in ours.specialists.items():
        digests[f"prompt/{key}"], digests[f"prompted/{key}"] = specialist.digests(ours.clusters[key])
    digests |= ours.heads.digests()
    digests |= {f"rows/{key}": rows.digest() for key, rows in ours.clusters.items()}
    assert {name for name in leaves if name.startswith("rows/")} <= digests.keys()
    assert len(ours.specialists) > 1
    assert all(state_leaf(system.hash_key, name, digest) == leaves[name] for name, digest in digests.items())


@pytest.fixture(scope="module")
def one_cluster(built: Callable[[str, int], System]) -> ClusterPrompts:
    """Forty rows in one cluster with a coreset of ten, whose two batches of five rows are full."""
    pipeline = built("minute", 0).pipeline()
    tuning = TuningConfig(epochs=2, batch_rows=5, coreset_rows=10)
    partition = replace(pipeline.config.partition, max_cluster_rows=ROWS)
    config = replace(pipeline.config, tuning=tuning, partition=partition)
    pipeline = replace(pipeline, config=config, feature_batch=1)
    return ClusterPrompts.fit(pipeline, pipeline.rows(samples(0, ROWS)))


def test_a_row_outside_the_coreset_costs_nothing_and_one_inside_a_tuning(one_cluster: ClusterPrompts) -> None:
    costs_N = one_cluster.row_passes_of_each()
    # Ten rows for two epochs in both directions, and one pass of the 39 that are left.
    assert sorted(costs_N.tolist()) == [0.0] * 30 + [2.0 * 2 * 10 + 39] * 10
    for name, stated in zip(one_cluster.table.sample_ids, costs_N.tolist(), strict=True):
        _, cost = measured(one_cluster.pipeline.backbone, partial(one_cluster.without, [name]))
        assert cost.row_passes == stated


def test_a_prompt_stays_exactly_as_long_as_its_coreset(one_cluster: ClusterPrompts) -> None:
    ((key, before),) = one_cluster.specialists.items()
    table = one_cluster.table
    for name, stated in zip(table.sample_ids, one_cluster.row_passes_of_each().tolist(), strict=True):
        remaining = one_cluster.without([name])
        fresh = ClusterPrompts.fit(one_cluster.pipeline, table.where(np.array(table.sample_ids) != name))
        rows = fresh.clusters[key]
        assert remaining.specialists[key].digests(rows) == fresh.specialists[key].digests(rows)
        assert np.array_equal(remaining.specialists[key].prompt, before.prompt) == (stated == 0)
        assert remaining.heads.digests() == fresh.heads.digests()


def test_a_regrouped_cluster_is_tuned_whichever_row_is_deleted(one_cluster: ClusterPrompts) -> None:
    bound = replace(one_cluster.pipeline.config.partition, max_cluster_rows=ROWS - 1)
    pipeline = replace(one_cluster.pipeline, config=replace(one_cluster.pipeline.config, partition=bound))
    divided = ClusterPrompts.fit(pipeline, one_cluster.table)
    assert len(divided.clusters) > 1
    # Any deletion joins all clusters to one of 39 rows.
    assert set(divided.row_passes_of_each().tolist()) == {2.0 * 2 * 10 + 39}


def test_cluster_prompts_answer_as_a_replica_does(system_of: Callable[..., System]) -> None:
    system = system_of("token", 60)
    pipeline = system.pipeline()
    images_N3PP = images_of(pipeline)
    answers = ClusterPrompts.fit(pipeline, pipeline.rows(samples(0, 60))).answers(images_N3PP)
    snapshot = load_snapshot(system.store, pipeline, system.newest(), system.hash_key)
    scored = Predictor(pipeline, ServingConfig()).score(snapshot, [ScoreRequest(images_N3PP, specialist_weight=0.5)])
    assert np.array_equal(answers.specialist_N, scored.specialist_N)
    # The replica's batches have another shape.
    np.testing.assert_allclose(answers.shared_NC, scored.shared_NC, atol=0.02)
    np.testing.assert_allclose(answers.pooled_NC, scored.pooled_NC, atol=0.02)


@pytest.mark.parametrize("variant", ["minute", "deep"])
def test_the_stated_cost_of_a_deletion_is_the_counted_cost(variant: str, built: Callable[[str, int], System]) -> None:
    """In batches of one row nothing is padded, so both are equal exactly."""
    pipeline = built(variant, 0).pipeline()
    # Clusters of at most five rows: one row of a full cluster is outside the coreset.
    tuning = TuningConfig(epochs=2, batch_rows=1, coreset_rows=4)
    pipeline = replace(pipeline, config=replace(pipeline.config, tuning=tuning), feature_batch=1)
    config = PublishedConfig(clusters=3, epochs=2, pad_px=4, batch_rows=1)
    rows = rows_of(pipeline, count=30)
    fits: list[Method] = [
        Retraining.fit(pipeline, rows),
        Sisa.fit(pipeline, rows, shards=3, slices=3),
        PublishedLMEraser.fit(pipeline, config, rows),
        SharedHeadOnly.fit(pipeline, rows),
        SamplePrompt.fit(pipeline, rows, tuned_rows=8),
        ClusterPrompts.fit(pipeline, pipeline.rows(samples(0, 30))),
    ]
    for removed in (["s3"], ["s3", "s4", "s20"], list(rows.sample_ids[:15]), ["nobody"]):
        for fit in fits:
            _, cost = measured(pipeline.backbone, partial(fit.without, removed))
            # It runs one image to find the width of the features.
            slack = 3 if isinstance(fit, PublishedLMEraser) else 0
            assert 0 <= cost.row_passes - fit.row_passes_of(removed) <= slack, type(fit)
