"""Damaged files of every format through decoder, check and predict: pixels or one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "mutated_images.py"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> Path:
    """Tiny images of every format, plain and with all that a camera or a program adds."""
    folder = tmp_path_factory.mktemp("seeds")
    noise = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((40, 28), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A maker of cameras"
    rich = {"exif": exif.tobytes(), "icc_profile": bytes(range(200)), "xmp": b"<x:xmpmeta/>" * 9}
    for suffix in ("png", "jpg", "webp", "tif"):
        image.save(folder / f"rich.{suffix}", **rich)
    image.save(folder / "lzw.tif", compression="tiff_lzw")
    image.convert("F").save(folder / "float.tif")
    image.convert("RGBA").save(folder / "alpha.png")
    image.convert("P").save(folder / "palette.png", transparency=3)
    image.save(folder / "frames.png", save_all=True, append_images=[image.rotate(90)])
    image.save(folder / "frames.gif", save_all=True, append_images=[image.rotate(90)])
    image.save(folder / "frames.webp", save_all=True, append_images=[image.rotate(90)])
    image.convert("CMYK").save(folder / "print.jpg")
    for suffix in ("bmp", "ppm"):
        image.save(folder / f"plain.{suffix}")
    if features.check("avif"):
        image.save(folder / "rich.avif", **rich)
        image.convert("RGBA").save(folder / "alpha.avif")
    pytest.importorskip("pillow_heif").register_heif_opener()
    image.save(folder / "rich.heic", "HEIF", **rich)
    image.convert("RGBA").save(folder / "alpha.heic", "HEIF")
    return folder


def assert_no_violation(seeds: Path, count: int) -> None:
    command = [sys.executable, "-W", "error", SCRIPT, seeds, "--count", str(count)]
    done = subprocess.run(
        [*command, "--seconds", "60"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = {line.split()[0]: line.split()[1:] for line in done.stdout.split("\n")[1:-2]}
    assert int(table["all"][-1].replace(",", "")) == count
    formats = {"BMP", "GIF", "HEIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"}
    assert formats <= table.keys()
    # Some are whole still, some are not: the damage is neither too small nor too large.
    for name in formats:
        pixels, everything = int(table[name][0]), int(table[name][-1])
        assert 0 < pixels < everything, table[name]


@pytest.mark.skipif(not SCRIPT.exists(), reason="not a checkout")
def test_damaged_files_give_pixels_or_one_line(seeds):
    assert_no_violation(seeds, 270)


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPT.exists(), reason="not a checkout")
def test_two_thousand_damaged_files_give_pixels_or_one_line(seeds):
    assert_no_violation(seeds, 2000)
