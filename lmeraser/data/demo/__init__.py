"""Bundled rows for the demo, imported only when a configuration asks for them: they bring scikit-learn and matplotlib."""
