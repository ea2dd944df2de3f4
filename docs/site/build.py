"""Build the documentation as a site.

python docs/site/build.py

Sphinx turns README, the pages in docs and the docstrings into site/, and a small network is trained
for the explorer in it. Any warning fails. In a terminal, the site opens in the browser.
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import webbrowser
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXPLORER = "docs/site/digit-explorer.html"
"""Place in the site; `explorer.md` embeds it."""


def build_pages(source: Path, out: Path) -> None:
    """Write the pages of a checkout.

    Args:
        source: Root of the checkout.
        out: Folder for the site.

    Raises:
        SystemExit: If there was a warning, such as a link that leads nowhere.
    """
    from sphinx.cmd.build import build_main

    # Afresh, since Sphinx repeats no warning of a page that it kept.
    with tempfile.TemporaryDirectory() as kept:
        options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(Path(__file__).parent)]
        if build_main([*options, "-d", kept, str(source), str(out)]):
            sys.exit("the site was not built: mend what Sphinx says above")
    # The first page is README's; its links hold, since both are in one folder.
    shutil.copyfile(out / "README.html", out / "index.html")


def build_explorer(page: Path) -> None:
    """Train the tutorial's CNN on scikit-learn's digits, and write the explorer of one of them."""
    from PIL import Image
    from sklearn.datasets import load_digits

    import convscope

    quiet = convscope.Progress()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seven = folder / "seven.png"
        Image.fromarray((load_digits().images[7] * 15.9).astype("uint8")).save(seven)
        run = convscope.train(
            data="digits", epochs=8, precision="float32", out=folder / "digits", progress=quiet
        )
        convscope.explain(run.path, [seven], out=folder, progress=quiet)
        shutil.copyfile(folder / "seven-explorer.html", page)


def build(out: Path) -> None:
    """Replace the site in a folder.

    Raises:
        SystemExit: If the folder holds something else, or the site cannot be built.
    """
    if out.exists() and not (out / "searchindex.js").exists():
        sys.exit(f"{out} exists and is no site: move it away, or choose another folder by --out")
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "site"
        explorer = Path(name) / "explorer.html"
        # Beside the pages: it mostly waits for its framework to load.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            trained = pool.submit(build_explorer, explorer)
            build_pages(ROOT, made)
            trained.result()
        shutil.copyfile(explorer, made / EXPLORER)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)


def main() -> None:
    """Build the site, and open it if a person is there to see it."""
    parser = argparse.ArgumentParser(description="Build the documentation as a site.")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder, replaced")
    out = parser.parse_args().out.resolve()
    build(out)
    page = out / "index.html"
    print(f"The documentation is at {page}")
    if sys.stdin.isatty() and sys.stdout.isatty():
        webbrowser.open(page.as_uri())


if __name__ == "__main__":
    main()
