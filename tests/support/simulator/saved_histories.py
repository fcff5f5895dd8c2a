"""Shrunk histories that fail: each fails again with one safeguard of the code removed, and succeeds otherwise."""

from __future__ import annotations

from simulator.choices import Deviation
from simulator.plan import Delete, Ingest, Plan, Restore, Serve, Start
from simulator.rows import Row
from simulator.saved_history import SavedHistory
from simulator.saved_previews import SAVED_PREVIEWS

SAVED_HISTORIES = (
    *SAVED_PREVIEWS,
    # Seed 51.
    SavedHistory(
        "a sweep does not call its fence",
        "object lost",
        Plan(
            300,
            1000,
            1,
            (Row(3),),
            (
                Start("reg0", 0.0),
                Start("reg1", 0.0),
                Ingest("ing0", 0.0, 0, (Row(10),), 1, False, "complete", False),
                Ingest("ing1", 0.0, 0, (Row(9),), 1, False, "complete", False),
            ),
        ),
        (
            Deviation("reg0#1.work", 22, "kill"),
            Deviation("ing1", 8, "freeze", "100"),
        ),
    ),
    # Seed 11.
    SavedHistory(
        "a coordinator forgets that it was replaced",
        "fence",
        Plan(
            300,
            1000,
            1,
            (Row(5),),
            (
                Start("reg0", 0.0),
                Start("reg2", 0.0),
                Delete("del1", 0.0, 2, (4,), ()),
                Ingest("ing0", 0.0, 2, (Row(10),), 1, False, "complete", False),
            ),
        ),
    ),
    # Seed 447.
    SavedHistory(
        "a coordinator that knows of its replacement continues",
        "no rest",
        Plan(
            300,
            1000,
            1,
            (Row(5),),
            (
                Start("reg0", 0.0),
                Start("reg1", 0.0),
                Delete("del0", 0.0, 1, (), ("dot",)),
                Delete("del1", 0.0, 2, (), ("dot",)),
            ),
        ),
        (Deviation("reg0#1.work", 4, "kill"), Deviation("del1", 1, "switch", "del0")),
    ),
    # Seed 39.
    SavedHistory(
        "an ingest gets its outcome without a check of the log",
        "outcome",
        Plan(
            300,
            1000,
            1,
            (Row(3),),
            (Start("reg0", 0.0), Start("reg1", 1.0), Ingest("ing0", 0.6, 0, (Row(9),), 1, False, "complete", False)),
        ),
        (Deviation("reg0#1.work", 50, "switch", "reg1"),),
    ),
    # Seed 4.
    SavedHistory(
        "an erasure does not wait for the lease",
        "late answer",
        Plan(
            300,
            1000,
            1,
            (),
            (
                Start("reg0", 0.0),
                Delete("del1", 0.6, 1, (0,), ()),
                Ingest("ing2", 0.0, 0, (Row(11),), 1, False, "complete", False),
                Serve("rep0", 0.3, 3),
            ),
        ),
    ),
    # Seed 0.
    SavedHistory(
        "nothing is swept before a deletion counts as erased",
        "erased row",
        Plan(
            300,
            1000,
            1,
            (Row(5),),
            (Start("reg0", 0.0), Delete("del0", 0.0, 0, (), ("cid",))),
        ),
    ),
    # Seed 3.
    SavedHistory(
        "an ingest continues while one of its rows is erased",
        "erased row",
        Plan(
            300,
            1000,
            1,
            (Row(3),),
            (
                Start("reg0", 0.0),
                Start("reg1", 0.0),
                Delete("del0", 0.0, 1, (10,), ()),
                Ingest("ing0", 0.0, 1, (Row(10, 1),), 1, False, "complete", False),
            ),
        ),
        (Deviation("reg1#1.work", 3, "kill"), Deviation("reg1#2.delete1", 5, "switch", "reg1#2.begin2")),
    ),
    # Seed 1792.
    SavedHistory(
        "an ingest respects only erasures before its beginning",
        "erased row",
        Plan(
            300,
            1000,
            1,
            (Row(5),),
            (
                Start("reg0", 0.0),
                Delete("del1", 0.0, 1, (), ("eve",)),
                Ingest("ing0", 0.0, 1, (Row(9),), 1, False, "complete", False),
            ),
        ),
        (
            Deviation("reg0#1.delete1", 3, "switch", "reg0#1.begin2"),
            Deviation("reg0#1.begin2", 2, "switch", "reg0#1.delete1"),
        ),
    ),
    # Seed 3.
    SavedHistory(
        "ids that the system did not hold are not remembered",
        "erased row",
        Plan(
            300,
            1000,
            1,
            (Row(3),),
            (
                Start("reg0", 0.0),
                Delete("del0", 0.0, 1, (10,), ()),
                Ingest("ing0", 0.0, 1, (Row(10, 1),), 1, False, "complete", False),
            ),
        ),
    ),
    # Seed 109.
    SavedHistory(
        "rows are those that the request named when it was accepted",
        "erased row",
        Plan(
            300,
            1000,
            1,
            (Row(5),),
            (
                Start("reg0", 0.0),
                Delete("del0", 2.0, 0, (8,), ()),
                Ingest("ing0", 0.0, 0, (Row(8),), 1, False, "complete", False),
            ),
        ),
        (Deviation("reg0#1.work", 45, "switch", "del0"),),
    ),
    # Seed 295.
    SavedHistory(
        "a restore forgets requests made after the copy",
        "erased row",
        Plan(
            300,
            1000,
            1,
            (Row(4),),
            (Start("reg0", 0.0), Delete("del0", 0.0, 0, (4,), ()), Restore("res0", 0.0, 2.0, 0.0)),
        ),
    ),
    # Seed 1224.
    SavedHistory(
        "an embedding continues while a row that it reads is erased",
        "erased row",
        Plan(
            300,
            3,
            1,
            (),
            (
                Start("reg0", 0.0),
                Delete("del0", 0.0, 0, (0,), ()),
                Delete("del1", 0.0, 0, (11,), ()),
                Ingest("ing2", 0.1, 0, (Row(0), Row(2), Row(7), Row(10)), 1, False, "complete", False),
            ),
        ),
        (Deviation("reg0#1.work", 141, "switch", "del1"),),
    ),
    # Seed 28.
    SavedHistory(
        "a tuning continues although its coreset lost a row",
        "erased row",
        Plan(
            300,
            3,
            1,
            (),
            (
                Start("reg0", 0.0),
                Delete("del1", 0.0, 0, (3,), ()),
                Ingest("ing1", 0.0, 0, (Row(3), Row(7, 1), Row(9)), 1, False, "complete", False),
            ),
        ),
        (Deviation("reg0#1.work", 80, "freeze", "100"),),
    ),
    # Seed 15.
    SavedHistory(
        "a cluster keeps its prompt although its coreset lost a row",
        "erased row",
        Plan(
            300,
            2,
            1,
            (Row(0), Row(1), Row(3)),
            (Start("reg0", 0.0), Delete("del0", 0.0, 0, (), ("bob",))),
        ),
    ),
    # Seed 10.
    SavedHistory(
        "the prompted features of an erased row stay in the sums",
        "erased row",
        Plan(300, 2, 1, (Row(0), Row(2), Row(3)), (Start("reg0", 0.0), Delete("del1", 0.0, 0, (0,), ()))),
    ),
    # Seed 1089.
    SavedHistory(
        "an owner does not check the log after a write",
        "left over",
        Plan(
            3,
            2,
            1,
            (Row(2), Row(4), Row(5)),
            (
                Start("reg0", 0.0),
                Start("reg1", 1.0),
                Delete("del0", 0.0, 0, (2,), ()),
                Ingest("ing0", 0.0, 0, (Row(10), Row(11)), 1, False, "complete", False),
            ),
        ),
        (Deviation("reg0.owner5.tune10", 2, "kill", ""),),
    ),
    # Seed 24.
    SavedHistory(
        "a part of a deletion counts as all of it",
        "erased row",
        Plan(
            3,
            1000,
            1,
            (Row(0), Row(1), Row(2), Row(5)),
            (Start("reg0", 0.0), Delete("del0", 0.0, 2, (2,), ("ann",))),
        ),
    ),
    # Seed 5.
    SavedHistory(
        "a checkpoint leaves out deletions that are not completed",
        "crash",
        Plan(3, 3, 1, (Row(0), Row(1), Row(2), Row(3)), (Start("reg0", 0.0), Delete("del1", 0.0, 1, (1,), ()))),
    ),
)
