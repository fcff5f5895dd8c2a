"""Bundled rows for the demo. Imported only when a configuration asks for them: they bring scikit-learn and matplotlib."""
