"""Somebody who predicts all the time, and notices every answer that is not 200."""

from __future__ import annotations

import threading

import httpx2
from small_system import picture


class Caller:
    """Predicts one image after the other, and keeps the failures."""

    def __init__(self, url: str) -> None:
        self.answers = 0
        self.failed: list[str] = []
        self._url = url

    def until(self, ended: threading.Event) -> None:
        """Predict until the event is set."""
        # Not the project's client, whose retries would hide a failure.
        with httpx2.Client(base_url=self._url, timeout=60.0) as client:
            while not ended.is_set():
                answer = client.post("/v1/predict", content=picture(400), headers={"Content-Type": "image/png"})
                self.answers += 1
                if answer.status_code != 200:
                    self.failed.append(answer.text)
