"""``python -m cluster.cli`` is ``lmeraser``."""

from cluster.cli import main

main()
