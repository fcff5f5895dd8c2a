"""The dendrogram against brute force, and the partition against a recursion of its own."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage

from lmeraser.hashing import row_bits
from lmeraser.learning.partition import Cluster, Dendrogram, Partition, cut
from lmeraser.learning.region import Region

Row = tuple[int, int]
Population = tuple[Dendrogram, list[Row], int]
Clusters = set[tuple[tuple[int, ...], str, int]]

# A busy machine is no reason to fail.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Some bits that part only late, and some that part at once.
BITS = st.sampled_from([0, 1, 2, 3, 2**63, 2**63 + 1, 2**62, 2**64 - 1, 2**64 - 2]) | st.integers(0, 2**64 - 1)


@st.composite
def trees(draw: st.DrawFn) -> Dendrogram:
    """Any dendrogram of two to six anchors."""
    chance = draw(st.randoms(use_true_random=False))
    alive = list(range(draw(st.integers(2, 6))))
    merges: list[list[int]] = []
    for node in range(len(alive), 2 * len(alive) - 1):
        chance.shuffle(alive)
        merges.append([alive.pop(), alive.pop()])
        alive.append(node)
    return Dendrogram(np.array(merges, np.int32))


@st.composite
def populations(draw: st.DrawFn) -> Population:
    """A dendrogram, the anchor and bits of every row, and a bound. Subjects have many rows, at several anchors."""
    tree = draw(trees())
    rows = st.tuples(st.integers(0, tree.anchors - 1), st.sampled_from(draw(st.lists(BITS, min_size=1, max_size=6))))
    number = draw(st.integers(0, 40))
    return tree, draw(st.lists(rows, min_size=number, max_size=number)), draw(st.integers(1, 12))


def cut_of(tree: Dendrogram, rows: list[Row], bound: int) -> Partition:
    return cut(tree, np.array([row[0] for row in rows], np.int32), np.array([row[1] for row in rows], np.uint64), bound)


def text(bits: int) -> str:
    return format(bits, "064b")


def below(tree: Dendrogram, node: int) -> set[int]:
    """The anchors of a node, by recursion."""
    if node < tree.anchors:
        return {node}
    left, right = tree.children_M2[node - tree.anchors].tolist()
    return below(tree, left) | below(tree, right)


def plain_cut(tree: Dendrogram, node: int, bits: str, rows: list[Row], bound: int) -> Clusters:
    """Anchors, bits and number of rows of every cluster, by recursion over the rows themselves."""
    if not rows:
        return set()
    if len(rows) <= bound or (node < tree.anchors and len({row[1] for row in rows}) == 1):
        return {(tuple(sorted(below(tree, node))), bits, len(rows))}
    if node < tree.anchors:
        halves = [(node, bits + bit, [row for row in rows if text(row[1]).startswith(bits + bit)]) for bit in "01"]
    else:
        children = tree.children_M2[node - tree.anchors].tolist()
        halves = [(child, bits, [row for row in rows if row[0] in below(tree, child)]) for child in children]
    return set().union(*(plain_cut(tree, child, more, part, bound) for child, more, part in halves))


@unhurried
@given(populations())
def test_a_partition_is_what_a_recursion_over_the_rows_gives(population: Population) -> None:
    tree, rows, bound = population
    clusters = cut_of(tree, rows, bound).clusters
    assert len(set(clusters)) == len(clusters)
    expected = plain_cut(tree, 2 * tree.anchors - 2, "", rows, bound)
    assert {(one.region.anchors, one.region.bits, one.rows) for one in clusters} == expected


@unhurried
@given(populations())
def test_every_row_is_in_exactly_one_cluster(population: Population) -> None:
    tree, rows, bound = population
    partition = cut_of(tree, rows, bound)
    for anchor, bits in rows:
        regions = [cluster.region for cluster in partition.clusters]
        owners = [region.key for region in regions if anchor in region.anchors and text(bits).startswith(region.bits)]
        assert owners == [partition.index.key_of(anchor, bits)]
    assert Counter(partition.index.key_of(*row) for row in rows) == {one.key: one.rows for one in partition.clusters}


@unhurried
@given(populations())
def test_only_a_cluster_of_one_subject_at_one_anchor_may_exceed_the_bound(population: Population) -> None:
    tree, rows, bound = population
    partition = cut_of(tree, rows, bound)
    for cluster in partition.clusters:
        assert cluster.rows > 0
        members = [row for row in rows if partition.index.key_of(*row) == cluster.key]
        assert len(members) <= bound or len(set(members)) == 1


@unhurried
@given(populations(), st.randoms(use_true_random=False))
def test_a_partition_does_not_depend_on_the_order_of_rows(population: Population, chance: random.Random) -> None:
    tree, rows, bound = population
    assert cut_of(tree, chance.sample(rows, len(rows)), bound) == cut_of(tree, rows, bound)


@pytest.mark.slow
@unhurried
@given(populations())
def test_the_keys_of_a_partition_are_distinct_and_sorted(population: Population) -> None:
    partition = cut_of(*population)
    assert [one.key for one in partition.clusters] == sorted({one.key for one in partition.clusters})
    regions = [(cluster.region, cluster.rows) for cluster in partition.clusters]
    assert [(cluster.key, cluster.region, cluster.rows) for cluster in partition.clusters] == [
        (region.key, region, rows) for region, rows in regions
    ]


@unhurried
@given(trees(), st.integers(1, 12))
def test_no_rows_give_an_empty_partition(tree: Dendrogram, bound: int) -> None:
    partition = cut_of(tree, [], bound)
    assert partition.clusters == () and partition.index.key_of(0, 0) is None


def test_a_node_without_rows_is_not_a_cluster() -> None:
    tree = Dendrogram(np.array([[0, 1], [2, 3], [4, 5]], np.int32))
    partition = cut_of(tree, [(0, 5), (0, 6), (1, 7)], 2)
    assert {(one.region.anchors, one.rows) for one in partition.clusters} == {((0,), 2), ((1,), 1)}
    assert partition.index.key_of(2, 5) is None and partition.index.key_of(3, 5) is None


def test_subjects_below_an_anchor_are_split_at_the_first_bit_in_which_they_differ() -> None:
    tree = Dendrogram(np.array([[0, 1]], np.int32))
    partition = cut_of(tree, [(1, 0b10), (1, 0b11), (1, 0b11), (1, 2**63)], 1)
    expected = {("0" * 62 + "10", 1), ("0" * 62 + "11", 2), ("1", 1)}
    assert {(one.region.bits, one.rows) for one in partition.clusters} == expected


def test_a_key_is_a_hash_of_anchors_and_bits_and_not_of_the_rows() -> None:
    expected = hashlib.sha256(b'[[1,12],"01"]').hexdigest()[:16]
    assert all(Cluster(Region((1, 12), "01"), rows).key == expected for rows in (3, 900))
    others = [Region((1, 12), "0"), Region((1, 12), ""), Region((11, 2), "01"), Region((112,), "01")]
    assert len({expected, *(other.key for other in others)}) == 5


@unhurried
@given(st.integers(0, 2**63), st.text("aZ0é-. ", max_size=9))
def test_the_bits_of_a_subject_are_the_head_of_a_hash_of_seed_and_name(seed: int, name: str) -> None:
    written = f'[{seed},"subject","{name}"]'.encode()
    assert text(row_bits(seed, "s1", name)) == text(int(hashlib.sha256(written).hexdigest()[:16], 16))


def test_the_bits_of_a_row_without_a_subject_are_made_of_its_sample_id_and_differ_from_any_subjects() -> None:
    bits = int(hashlib.sha256(b'[3,"no subject","s1"]').hexdigest()[:16], 16)
    assert row_bits(3, "s1", None) == bits
    assert bits not in {row_bits(3, "s1", name) for name in ("s1", "None", "null")}


@pytest.mark.parametrize("subject", ["Zoe\u0308", None])
def test_bits_are_the_same_for_ids_that_differ_in_unicode_form_only(subject: str | None) -> None:
    composed = None if subject is None else "Zo\u00eb"
    assert row_bits(3, "caf\u00e9", composed) == row_bits(3, "cafe\u0301", subject)


def test_the_bits_of_subjects_depend_on_the_seed_and_divide_them_into_halves() -> None:
    names = [f"u{number}" for number in range(2000)]
    by_seed = [[row_bits(seed, "s1", name) for name in names] for seed in (0, 1)]
    assert len({bits for bits_of_seed in by_seed for bits in bits_of_seed}) == 4000
    for position in (0, 1, 40, 63):
        assert 900 < sum(text(bits)[position] == "1" for bits in by_seed[0]) < 1100


def parts(tree: Dendrogram, merges: int) -> set[tuple[int, ...]]:
    """The anchors of every node that exists after this many merges."""
    merged = set(tree.children_M2[:merges].ravel().tolist())
    return {tree.leaves(node) for node in range(tree.anchors + merges) if node not in merged}


def test_a_dendrogram_joins_the_two_parts_whose_joint_variance_grows_least() -> None:
    anchors_AR = np.random.default_rng(0).normal(size=(14, 3)).astype(np.float32)
    tree = Dendrogram.fit(anchors_AR)
    alive: set[tuple[int, ...]] = {(anchor,) for anchor in range(14)}

    def growth(one: tuple[int, ...], other: tuple[int, ...]) -> float:
        apart_R = anchors_AR[list(one)].mean(axis=0, dtype=float) - anchors_AR[list(other)].mean(axis=0, dtype=float)
        return float(len(one) * len(other) / (len(one) + len(other)) * (apart_R**2).sum())

    for merges in range(14):
        assert parts(tree, merges) == alive
        if merges < 13:
            _, one, other = min((growth(one, other), one, other) for one in alive for other in alive if one < other)
            alive = alive - {one, other} | {tuple(sorted(one + other))}


@pytest.mark.parametrize("anchors", [2, 3, 60])
def test_a_dendrogram_divides_anchors_as_flat_clusters_at_every_height(anchors: int) -> None:
    anchors_AR = np.random.default_rng(anchors).normal(size=(anchors, 4)).astype(np.float32)
    tree = Dendrogram.fit(anchors_AR)
    assert (tree.anchors, tree.children_M2.shape) == (anchors, (anchors - 1, 2))
    merges_M4 = linkage(anchors_AR.astype(np.float64), method="ward")
    for merges, height in enumerate(merges_M4[:, 2].tolist(), start=1):
        labels_A = fcluster(merges_M4, height, criterion="distance")
        assert parts(tree, merges) == {tuple(np.flatnonzero(labels_A == label)) for label in labels_A}
    assert tree.leaves(0) == (0,) and tree.leaves(2 * anchors - 2) == tuple(range(anchors))


def test_a_dendrogram_survives_its_tensors() -> None:
    tree = Dendrogram.fit(np.random.default_rng(9).normal(size=(9, 2)).astype(np.float32))
    assert Dendrogram.from_tensors(tree.tensors()).children_M2.tobytes() == tree.children_M2.tobytes()
