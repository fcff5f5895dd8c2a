"""Bundled rows for the demo, imported only on demand: they bring scikit-learn and matplotlib."""
