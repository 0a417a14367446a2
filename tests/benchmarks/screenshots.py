"""The README's pictures, from the running app:  python -m tests.benchmarks.screenshots

Each tab as it opens without data sets, in light and dark, as docs/<tab>.webp and docs/<tab>-dark.webp. Needs Playwright
and Chromium.
"""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

import app

DOCS = Path(__file__).parents[2] / "docs"
TABS = {  # what to wait for
    "Forward": "#forward-stage img",
    "Sample": "#sample-stage .player",
    "Compare": "#compare-results .curves svg",  # after the reference run
    "Interpolate": "#interpolate-stage .player",
    "Evaluate": "#evaluate-stage .result",
    "Training": "#training-history svg",
    "Score": "#score-particles canvas",
}


# The row in which a visitor trains shows real digits, and no image of a data set is part of this repository.
WITHOUT_DATA = ".work:has(#live-stage) { display: none !important; }"


def shoot(page: Page, path: Path, whole: bool = True) -> None:
    """The page, or what the window shows of it, as WebP, which keeps the edges of pixels at a fifth of a PNG's size."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(800)
    Image.open(io.BytesIO(page.screenshot(full_page=whole))).save(path, quality=88, method=6)
    print(path, f"{path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    _, url, _ = app.demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **app.launch_options())
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for theme, suffix in (("light", ""), ("dark", "-dark")):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(f"{url}?__theme={theme}")
            page.wait_for_selector("#forward-stage img")
            page.add_style_tag(content=WITHOUT_DATA)
            for tab, ready in TABS.items():
                page.get_by_role("tab", name=tab).click()
                page.wait_for_selector(ready, timeout=180_000)
                shoot(page, DOCS / f"{tab.lower()}{suffix}.webp")
            page.locator("#present").click()
            page.wait_for_selector("#stop-1 .slide .player", state="attached", timeout=60_000)
            page.keyboard.press("PageDown")
            shoot(page, DOCS / f"talk{suffix}.webp", whole=False)
            page.wait_for_function("!document.querySelector('#talk .busy')", timeout=180_000)  # nothing is left running
            page.close()
        browser.close()
    app.demo.close()


if __name__ == "__main__":
    main()
