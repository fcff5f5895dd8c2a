"""One replica as a separate process, over real HTTP: ``python one_replica.py STORE KEYS PORT FREEZE``.

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
from serving.coordinator_proxy import CoordinatorProxy
from serving.http_routes import create_app
from serving.predictor import Scores
from serving.replica import Replica

if __name__ == "__main__":

    def freeze(_batch: Sequence[Scores], _seconds: float) -> None:
        if (file := Path(sys.argv[4])).exists():
            file.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)

    replica = Replica(open_store(sys.argv[1]), Path(sys.argv[2]), ServingConfig(), on_batch=freeze)
    coordinator = CoordinatorProxy(replica.store_id, sys.argv[1])
    app = create_app(replica, coordinator, ApiKeys(Path(sys.argv[2])))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[3]), log_level="error")
