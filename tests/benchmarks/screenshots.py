"""The README's pictures, from the running app:  python -m tests.benchmarks.screenshots

Needs Playwright and Chromium; writes forward.png, sample.png, compare.png, interpolate.png and score.png into docs.
"""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

import app


def main() -> None:
    _, url, _ = app.demo.launch(prevent_thread_lock=True, server_name="127.0.0.1", quiet=True, **app.launch_options())
    docs = Path(__file__).parents[2] / "docs"
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{url}?__theme=light")
        page.wait_for_selector("#forward-stage img")
        page.wait_for_timeout(1000)
        page.screenshot(path=docs / "forward.png", full_page=True)
        page.get_by_role("tab", name="Sample").click()
        page.wait_for_selector("#sample-stage .player")
        page.wait_for_timeout(500)
        page.screenshot(path=docs / "sample.png", full_page=True)
        page.get_by_role("tab", name="Compare").click()
        page.wait_for_selector("#compare-results .curves svg", timeout=120_000)  # after the reference run
        page.wait_for_timeout(500)
        page.screenshot(path=docs / "compare.png", full_page=True)
        page.get_by_role("tab", name="Interpolate").click()
        page.wait_for_selector("#interpolate-stage .player")
        page.wait_for_timeout(500)
        page.screenshot(path=docs / "interpolate.png", full_page=True)
        page.get_by_role("tab", name="Score").click()
        page.wait_for_selector("#score-particles canvas")
        page.wait_for_timeout(500)
        page.screenshot(path=docs / "score.png", full_page=True)
        browser.close()
    app.demo.close()


if __name__ == "__main__":
    main()
