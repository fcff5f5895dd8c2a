"""Put together what the documentation site is built from: the documents, and reference pages made from the code.

The documents keep their places below the project's folder, so that a link means the same on the site and in a clone.

    python docs/site/stage.py FOLDER
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs", "lmeraser", "actors", "serving", "cluster", "benchmarks", "tests", "deploy", "examples")
FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "LICENSE", "ray_cluster.yaml")
# What documents link to or show.
SUFFIXES = {".md", ".py", ".yaml", ".json", ".svg", ".png", ".webp", ".ipynb"}
METRICS = ("actors/remote/metrics.py", "actors/remote/store_metrics.py", "serving/metrics.py")
_KINDS = ("Counter", "Gauge", "Histogram")


def main(target: Path) -> None:
    """Fill the folder anew."""
    shutil.rmtree(target, ignore_errors=True)
    for source in [ROOT / name for name in FILES] + [
        path for folder in FOLDERS for path in documents_in(ROOT / folder)
    ]:
        copy = target / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    reference = target / "docs" / "reference"
    (reference / "configuration.md").write_text(configuration_page())
    (reference / "python.md").write_text(python_page())
    (reference / "errors.md").write_text(errors_page())
    (reference / "metrics.md").write_text(metrics_page())
    (reference / "commands.md").write_text(commands_page())


def documents_in(folder: Path) -> Iterator[Path]:
    """The files of a folder that belong to the site."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if path.suffix in SUFFIXES and "__pycache__" not in parts and parts[:2] != ("docs", "site"):
            yield path


def configuration_page() -> str:
    """Every field of a configuration, from the docstrings of its classes."""
    sections = {
        "One file": "file.Config",
        "backbone": "state.BackboneConfig",
        "partition": "state.PartitionConfig",
        "prompt": "state.PromptConfig",
        "tuning": "state.TuningConfig",
        "heads": "state.HeadsConfig",
        "public, private, test": "sources.SourceConfig",
        "columns, of public, private and test": "sources.ColumnsConfig",
        "images": "images.ImagesConfig",
        "pretrain": "pretrain.PretrainConfig",
        "owners": "owners.OwnersConfig",
        "serving": "serving.ServingConfig",
    }
    pages = (f"## {title}\n\n::: lmeraser.config.{name}\n" for title, name in sections.items())
    return "# Configuration\n\nA YAML file. Keys that are not listed here are refused.\n\n" + "\n".join(pages)


def python_page() -> str:
    """The public names for callers."""
    return dedent(
        """\
        # Python

        ::: lmeraser.client.client.Client

        ::: lmeraser.client.async_client.AsyncClient

        ::: lmeraser.client.responses

        ::: lmeraser.deletion

        ::: lmeraser.paging
        """
    )


def errors_page() -> str:
    """All errors that callers may catch."""
    return "# Errors\n\n::: lmeraser.errors\n"


def metrics_page() -> str:
    """The metrics, as the code declares them."""
    lines = ["# Metrics", "", "Ray's metrics agent exports them as `ray_NAME`.", "", "| name | kind | what it says |"]
    lines.append("| --- | --- | --- |")
    for file in METRICS:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _KINDS:
                texts = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
                tags = next((ast.literal_eval(each.value) for each in node.keywords if each.arg == "tag_keys"), ())
                by = f" By {', '.join(f'`{tag}`' for tag in tags)}." if tags else ""
                lines.append(f"| `{texts[0]}` | {node.func.id.lower()} | {texts[1]}{by} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Every command with its options, as ``--help`` shows them."""
    command = [sys.executable, "-m", "typer", "cluster.cli.app", "utils", "docs", "--name", "lmeraser"]
    done = subprocess.run([*command, "--title", "Commands"], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
