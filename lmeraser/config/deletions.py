"""What deletions need."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DeletionsConfig:
    """What deletions need.

    Recorded in the log of the store by the service, and by commands that delete without one, when they start. It holds
    until it is changed, also where this is absent.

    Attributes:
        approval: ``required`` has a deletion wait until somebody else than its requester approves or declines it;
            ``none`` has it carried out at once. When absent, what the log of the store says, at first ``none``.
    """

    approval: Literal["required", "none"] | None = None

    @property
    def required(self) -> bool | None:
        """Whether approval is to be required from now on; None if that is not to be changed."""
        return None if self.approval is None else self.approval == "required"
