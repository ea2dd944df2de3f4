"""How soon the studio's pages are painted, and whether its memory grows with the pages opened.

In Chromium (CONVSCOPE_BROWSER, or `chromium`), from loopback: each page as its browser times it,
the run's page with many test images, then hundreds of page loads with their sockets, and the
resident memory of the studio's process.

    python benchmarks/studio_pages.py --loads 500 --images 10000
"""

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

import convscope
from convscope.evaluation.predictions import read_predictions, save_predictions
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import Predictions

N_TIMED = 5
TIMES = """() => {
    const paint = performance.getEntriesByName("first-contentful-paint")[0];
    return [paint ? paint.startTime : NaN, performance.now()];
}"""


def many_test_images(folder: Path, n: int) -> Run:
    """Return a small run that claims to have been tested on many images."""
    convscope.train(
        "cnn-functional", data="digits", epochs=2, out=folder / "many", progress=Progress()
    )
    run = Run(folder / "many")
    found, about = read_predictions(run.predictions_file)
    test = found["test"]
    repeated = np.arange(n) % len(test.labels)
    ids = np.array([f"test/{index:06}" for index in range(n)])
    found["test"] = Predictions(test.probs[repeated], test.labels[repeated], ids, "test")
    save_predictions(found, run.class_names, run.predictions_file, about=about)
    return run


def timed(page: Page, address: str) -> tuple[float, float]:
    """Return the seconds to the first paint of a page, and until its content is drawn."""
    page.goto(address, wait_until="commit")
    page.wait_for_selector(".cs-main h1")
    first, drawn = page.evaluate(TIMES)
    return first / 1000, drawn / 1000


def memory_mb(process: "subprocess.Popen[str]") -> float:
    """Return the resident memory of a process."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found is not None
    return int(found[1]) / 1024


def measure(page: Page, at: str, process: Any, n_loads: int) -> None:
    """Print the times of each page, and the memory over many loads of them."""
    pages = ["/data", "/train", "/runs", "/use", "/run/many"]
    print(f"{'page':12} first paint (s)  content (s): median of {N_TIMED}, after a first visit")
    for path in pages:
        cold = timed(page, f"{at}{path}")
        times = [timed(page, f"{at}{path}") for _ in range(N_TIMED)]
        first, drawn = (statistics.median(each) for each in zip(*times, strict=True))
        print(f"{path:12} {first:8.2f} {drawn:16.2f}   first visit {cold[0]:.2f} {cold[1]:.2f}")
    for load in range(n_loads + 1):
        if load % max(1, n_loads // 10) == 0:
            print(f"after {load:4} loads: {memory_mb(process):.0f} MB", flush=True)
        timed(page, f"{at}{pages[load % len(pages)]}")
    page.goto("about:blank")
    time.sleep(60)
    print(f"a minute after the last: {memory_mb(process):.0f} MB")


def main() -> None:
    """Start a studio on a run with many test images, and measure it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=int, default=500)
    parser.add_argument("--images", type=int, default=10_000)
    given = parser.parse_args()
    browser_path = os.environ.get("CONVSCOPE_BROWSER") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder:
        many_test_images(Path(folder) / "runs", given.images)
        process = subprocess.Popen(
            [*(sys.executable, "-m", "convscope"), "studio", "--no-open", "--port", "0"],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=browser_path, args=["--no-sandbox"]
                )
                page = browser.new_page()
                page.goto(address)
                page.wait_for_selector(".cs-main h1")
                measure(page, address.partition("/?")[0], process, given.loads)
                browser.close()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


if __name__ == "__main__":
    main()
