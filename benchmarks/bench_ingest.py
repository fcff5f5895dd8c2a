"""How much memory does an ingest take, in all processes together, and how long do anchors and dendrogram take?

    python -m benchmarks.bench_ingest --data ../shared/data --out /tmp/ingest memory
    python -m benchmarks.bench_ingest anchors

``memory`` runs ``lmeraser ingest`` on CIFAR-10 in a Ray of its own, and adds up every half second the proportional set
size of the command and of all processes below it (/proc/PID/smaps_rollup, Linux). ``anchors`` fits the partition to
random features of the width of DeiT-Tiny: k-means takes a fixed number of sweeps, so its time does not depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.lib.harness import machine
from benchmarks.lib.process_memory import MIB, bytes_by_kind, descendants
from lmeraser.learning.anchors import AnchorIndex, fit_anchors
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import Dendrogram

_SAMPLE_S = 0.5
# Width of DeiT-Tiny.
_FEATURES = 192


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=("memory", "anchors"))
    parser.add_argument("--data", type=Path, help="folder with private/, public/ and weights/")
    parser.add_argument("--out", type=Path, help="folder for the store; replaced if it exists")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--image-px", type=int, default=32)
    parser.add_argument("--max-cluster-rows", type=int, default=300)
    parser.add_argument("--anchors", type=int, default=4096)
    parser.add_argument("--public-rows", type=int, default=100_000)
    arguments = parser.parse_args()
    if arguments.figure == "memory":
        figure = peak_of_an_ingest(arguments)
    else:
        figure = seconds_of_anchors(arguments.public_rows, arguments.anchors)
    print(json.dumps({**figure, **machine()}))


def peak_of_an_ingest(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak memory of an ingest, and its parts at the peak."""
    out: Path = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    data = arguments.data.absolute()
    config = {
        "store": str(out.absolute() / "store"),
        "backbone": {
            "name": "deit_tiny_patch16_224",
            "weights": str(data / "weights" / "deit_tiny_patch16_224.safetensors"),
            "image_px": arguments.image_px,
        },
        "partition": {"anchors": 1024, "max_cluster_rows": arguments.max_cluster_rows},
        "public": {"kind": "parquet", "path": str(data / "public" / "tiny-imagenet-train.parquet")},
        "private": {
            "kind": "parquet",
            "path": str(data / "private" / "cifar10-train.parquet"),
            "max_rows": arguments.rows,
        },
    }
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "RAY_ADDRESS": "local", "LMERASER_KEYS": str(out / "keys")}
    command = [sys.executable, "-m", "cluster.cli"]
    subprocess.run([*command, "keys", "init"], env=environment, check=True, stdout=subprocess.DEVNULL)
    ingest_command = [*command, "ingest", "--config", str(out / "config.yaml"), "--json"]
    with subprocess.Popen(ingest_command, env=environment, stdout=subprocess.PIPE, text=True) as ingest:
        peak = Peak(ingest.pid)
        output, _ = ingest.communicate()
    if ingest.returncode:
        sys.exit(ingest.returncode)
    options = {name: getattr(arguments, name) for name in ("rows", "image_px", "max_cluster_rows")}
    return {**options, **json.loads(output), **peak.figures()}


class Peak:
    """Samples the memory of a process and its descendants until it ends."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak: dict[str, list[int]] = {}
        self._largest: dict[str, int] = defaultdict(int)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def figures(self) -> dict[str, Any]:
        """The peak in MiB: in total, by kind of process (number and sum), and of the largest process of each kind."""
        self._thread.join()
        return {
            "peak_mib": sum(map(sum, self._peak.values())) // MIB,
            "at_peak": {kind: f"{len(sizes)}: {sum(sizes) // MIB}" for kind, sizes in sorted(self._peak.items())},
            "largest_mib": {kind: size // MIB for kind, size in sorted(self._largest.items())},
        }

    def _watch(self) -> None:
        while Path(f"/proc/{self._pid}/smaps_rollup").exists():
            sample = bytes_by_kind(descendants(self._pid))
            sample["command"] = [size for sizes in bytes_by_kind([self._pid]).values() for size in sizes]
            if not any(sample.values()):
                return
            for kind, sizes in sample.items():
                self._largest[kind] = max(self._largest[kind], *sizes, 0)
            if sum(map(sum, sample.values())) > sum(map(sum, self._peak.values())):
                self._peak = sample
            time.sleep(_SAMPLE_S)


def seconds_of_anchors(rows: int, count: int) -> dict[str, Any]:
    """Seconds of k-means, of Ward linkage, and of finding the nearest anchors."""
    features_NR = np.random.Generator(np.random.PCG64(0)).standard_normal((rows, _FEATURES)).astype(np.float32)
    seconds: dict[str, float] = {}
    with deterministic():
        begun = time.perf_counter()
        anchors_AR = fit_anchors(features_NR, count, seed=0)
        seconds["k-means"] = time.perf_counter() - begun
        begun = time.perf_counter()
        Dendrogram.fit(anchors_AR)
        seconds["linkage"] = time.perf_counter() - begun
        begun = time.perf_counter()
        AnchorIndex(anchors_AR).nearest(features_NR)
        seconds["nearest"] = time.perf_counter() - begun
    rounded = {name: round(value, 1) for name, value in seconds.items()}
    return {"public_rows": rows, "anchors": count, "features": _FEATURES, **rounded}


if __name__ == "__main__":
    main()
