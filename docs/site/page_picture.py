"""Take the picture of the operator's page that the README shows.

A copy of the demo's store is served over Ray; the page answers a test image and deletes a subject, in Chromium, in
light colours. ``make demo`` makes the store.

    python docs/site/page_picture.py --workdir demo-work
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from cluster.runtime import connect, free_port
from cluster.service import start_service, stop_service
from lmeraser.config import OwnersConfig, ServingConfig
from lmeraser.data.demo.coloured import ColouredDigitsSource
from lmeraser.errors import LMEraserError
from lmeraser.store import open_store

PICTURE = Path(__file__).parents[1] / "page.webp"
MAX_BYTES = 150 * 1024
# As wide as the README's column is on a wide screen, with the page's two columns side by side.
_WIDTH_PX, _HEIGHT_PX = 1100, 860
_OPTIONS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
_TUNED_MS = 120_000


def main() -> None:
    """Serve, open the page, and write the picture.

    Raises:
        LMEraserError: when there is no demo's store or no Chromium, or the picture is too large.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("demo-work"), help="the working folder of `make demo`")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="Chromium's program")
    parser.add_argument("--out", type=Path, default=PICTURE, help="the file that is written")
    arguments = parser.parse_args()
    if arguments.browser is None:
        raise LMEraserError("there is no Chromium on this machine: install it, or name its program with --browser")
    if not (arguments.workdir / "store" / "store.json").exists():
        raise LMEraserError(f"{arguments.workdir} has no store: `make demo` makes one")
    with tempfile.TemporaryDirectory(prefix="lm-") as folder:
        # A deletion changes it.
        shutil.copytree(arguments.workdir / "store", Path(folder) / "store")
        shutil.copytree(arguments.workdir / "keys", Path(folder) / "keys")
        with served(Path(folder)) as url:
            png = photograph(url, arguments.browser)
    picture = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(picture, "WEBP", quality=85, method=6)
    if picture.tell() > MAX_BYTES:
        raise LMEraserError(f"the picture has {picture.tell()} bytes; at most {MAX_BYTES} are allowed")
    arguments.out.write_bytes(picture.getvalue())
    print(f"{arguments.out}: {picture.tell()} bytes")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a service over the store in a folder, for the length of the block."""
    connect()
    store = open_store(str(folder / "store"))
    yield start_service(store, folder / "keys", ServingConfig(), "127.0.0.1", free_port(), OwnersConfig())
    stop_service()


def photograph(url: str, browser: str) -> bytes:
    """The page as PNG, after an answer and a deletion."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=_OPTIONS, chromium_sandbox=False)
        page = chromium.new_page(
            viewport={"width": _WIDTH_PX, "height": _HEIGHT_PX}, color_scheme="light", device_scale_factor=1.5
        )
        page.goto(url)
        expect(page.locator("#treemap > div").first).to_be_visible()
        delete_a_subject(page)
        ask(page)
        # Down to the list of deletions, which would be cut through.
        below = page.locator("#deletions").bounding_box()
        assert below is not None
        png = page.screenshot(clip={"x": 0, "y": 0, "width": _WIDTH_PX, "height": below["y"]})
        chromium.close()
    return png


def delete_a_subject(page: Page) -> None:
    """Delete the rows of one digit, and wait until that is completed."""
    rows = ColouredDigitsSource("train")
    subject = next(sample.subject_id for sample in rows.samples(rows.labels) if sample.subject_id is not None)
    page.fill("#subjects", subject)
    page.click("#delete-form button")
    expect(page.locator("#followed .steps .done").last).to_have_text("completed", timeout=_TUNED_MS)
    page.fill("#subjects", "")
    page.locator("#subjects").blur()


def ask(page: Page) -> None:
    """Have a test image answered."""
    rows = ColouredDigitsSource("test")
    image = next(iter(rows.samples(rows.labels))).image
    page.set_input_files("#file", {"name": "digit.png", "mimeType": "image/png", "buffer": image})
    expect(page.locator("#prediction .label")).to_be_visible()
    expect(page.locator("#treemap .answered")).to_be_visible()


if __name__ == "__main__":
    main()
