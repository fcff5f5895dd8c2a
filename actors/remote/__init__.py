"""Everything in ``actors`` that knows Ray: coordinator and owners as actors, their processes, and where they run."""
