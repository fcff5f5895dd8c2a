"""Shrunk histories that fail where deletions are not kept to their previews, or do not wait for their approval."""

from __future__ import annotations

from simulator.choices import Deviation
from simulator.plan import Delete, Plan, Require, Start
from simulator.rows import Row
from simulator.saved_history import SavedHistory

SAVED_PREVIEWS = (
    SavedHistory(
        "a deletion that waits for an approval is carried out",
        "not approved",
        Plan(
            300,
            1000,
            1,
            (Row(1), Row(2)),
            (Start("reg0", 0.0), Require("req0", 0.0, 0), Delete("del0", 1.0, 0, (2,), ())),
        ),
    ),
    # Seed 35.
    SavedHistory(
        "a deletion as previewed is accepted while something is being committed",
        "stale preview",
        Plan(
            300,
            1000,
            1,
            (Row(1), Row(2)),
            (Start("reg0", 0.0), Delete("del0", 0.0, 1, (2,), ()), Delete("del1", 0.0, 0, (), ("ann",), True)),
        ),
        (
            Deviation("reg0#1.delete2", 9, "switch", "reg0.owner1.rows2"),
            Deviation("reg0#1.work", 70, "switch", "reg0#1.delete2"),
        ),
    ),
    # Seed 35.
    SavedHistory(
        "a preview is not compared with the newest commit",
        "stale preview",
        Plan(
            300,
            1000,
            1,
            (Row(1), Row(2)),
            (Start("reg0", 0.0), Delete("del0", 0.3, 1, (2,), ()), Delete("del1", 0.6, 0, (), ("ann",), True)),
        ),
        (
            Deviation("reg0#1.work", 57, "switch", "del1"),
            Deviation("reg0#1.delete1", 3, "switch", "reg0#1.work"),
            Deviation("reg0#1.delete1", 8, "switch", "reg0#1.work"),
        ),
    ),
    # Of two deletions at the same moment, with the choices of seed 1.
    SavedHistory(
        "a deletion as previewed is erased together with others",
        "preview",
        Plan(
            300,
            1000,
            1,
            (Row(2),),
            (Start("reg0", 0.0), Delete("del0", 0.3, 0, (2,), ()), Delete("del1", 0.3, 0, (), ("ann",), True)),
        ),
        (Deviation("reg0#1.work", 60, "switch", "del1"),),
    ),
)
