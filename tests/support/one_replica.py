"""One replica as a process of its own, over real HTTP: ``python one_replica.py STORE KEYS PORT FREEZE``.

If the file FREEZE exists, the next forward pass removes it and then stops the whole process (SIGSTOP).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from lmeraser.config import ServingConfig
from lmeraser.store import open_store
from serving.api_keys import ApiKeys
from serving.batcher import Batcher
from serving.coordinator_proxy import CoordinatorProxy
from serving.http_routes import create_app
from serving.predictor import ScoreRequest, Scores
from serving.replica import Replica

if __name__ == "__main__":
    replica = Replica(open_store(sys.argv[1]), Path(sys.argv[2]), ServingConfig())

    def score(requests: Sequence[ScoreRequest]) -> list[Scores]:
        scored = replica.score(requests)
        if (freeze := Path(sys.argv[4])).exists():
            freeze.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        return scored

    coordinator = CoordinatorProxy(replica.store_id, sys.argv[1])
    app = create_app(replica, Batcher(score, replica.config.max_batch_images), coordinator, ApiKeys(Path(sys.argv[2])))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[3]), log_level="error")
