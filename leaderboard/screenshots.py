"""Pictures of a built page for the documentation, taken in a real Chromium.

``python leaderboard/screenshots.py PAGE docs/images`` (playwright and Chromium needed; CHROMIUM names the program).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

DESKTOP, PHONE = {"width": 1280, "height": 1000}, {"width": 390, "height": 844}


def main(page: Path, out: Path) -> None:
    """Write ``leaderboard.png``, ``-dark``, ``-phone`` and ``-method`` into a folder."""
    index = page / "index.html"
    method = min((page / "methods").glob("*.html"), key=lambda path: (path.name != "stprivacy.html", path.name))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        for name, path, size, colors, ratio in (
            ("leaderboard", index, DESKTOP, "light", 1),
            ("leaderboard-dark", index, DESKTOP, "dark", 1),
            ("leaderboard-phone", index, PHONE, "light", 2),
            ("leaderboard-method", method, DESKTOP, "light", 1),
        ):
            tab = browser.new_context(viewport=size, color_scheme=colors, device_scale_factor=ratio).new_page()
            tab.goto(path.absolute().as_uri())
            tab.wait_for_selector(".js-plotly-plot .points, .js-plotly-plot .point")
            if name == "leaderboard-phone":
                tab.locator(".contest").first.scroll_into_view_if_needed()
                tab.evaluate("document.querySelector('.contest').scrollIntoView()")
            tab.wait_for_timeout(500)  # for the font and the plot to settle
            tab.screenshot(path=str(out / f"{name}.png"))
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
