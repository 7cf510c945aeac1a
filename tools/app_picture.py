"""Photograph the FiftyOne App for the docs, in a headless Chromium.

stp-bench inspect RUN --view "privacy leaked"     # in another terminal; prints LINK
python tools/app_picture.py LINK docs/images/inspect.png
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main() -> None:
    """Open the link, wait for the samples, take the picture."""
    link, out = sys.argv[1], Path(sys.argv[2])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 900})
        page.route("**/*", lambda r: r.continue_() if "127.0.0.1" in r.request.url else r.abort())
        page.goto(link)
        page.get_by_text(re.compile(r"^[0-9,]+ (groups|samples)")).first.wait_for(timeout=180_000)
        if (dismiss := page.get_by_text("Dismiss")).count():
            dismiss.first.click()
        page.wait_for_timeout(5000)  # thumbnails are drawn one by one
        page.screenshot(path=out)
        browser.close()


if __name__ == "__main__":
    main()
