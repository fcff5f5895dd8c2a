"""Audits of deletions: what the store, its log, its receipts and the model itself say about them."""

from lmeraser.audit.html import to_html
from lmeraser.audit.report import Audit, Section
from lmeraser.audit.run import audit
from lmeraser.audit.sections import Question
from lmeraser.audit.targets import Plan

__all__ = ["Audit", "Plan", "Question", "Section", "audit", "to_html"]
