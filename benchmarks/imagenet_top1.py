"""How often a backbone with its ImageNet classifier is right on labelled sample images.

For backbones whose published file holds the classifier too: the EfficientNet-Lite family. The
images are one for each class, named after it ("n01440764_tench.JPEG"), as in the public collection
github.com/EliSchwartz/imagenet-sample-images; sorted, the classes are ImageNet's 1,000. Many of
these images were trained on, so the figure is above the published one of the validation images:
it shows that weights, padding and scaling are right, not how good the network is.

    python benchmarks/imagenet_top1.py --images DIR
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from convscope.models._torch_file import read_tensors
from convscope.models.backbones import BACKBONES
from convscope.models.preprocessing import SCALINGS
from convscope.models.weights import find_weights, load_weights
from convscope.progress import Progress


def cropped(image: Image.Image, side: int) -> Image.Image:
    """Return the middle of an image whose short side is made 8/7 of `side` first."""
    scale = round(side * 8 / 7) / min(image.size)
    width, height = (round(length * scale) for length in image.size)
    large = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return large.crop((left, top, left + side, top + side))


def squashed(image: Image.Image, side: int) -> Image.Image:
    """Return the whole image as a square."""
    return image.resize((side, side), Image.Resampling.BILINEAR)


def main() -> None:
    """Print top-1 and top-5 accuracy of each network, cropped and squashed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["efficientnet_lite0"])
    arguments = parser.parse_args()
    files = sorted(arguments.images.glob("n*.JPEG"))
    classes = sorted({file.name.split("_")[0] for file in files})
    if len(classes) != 1000:
        raise SystemExit(f"{arguments.images} has images of {len(classes)} classes, not of 1,000")
    labels = np.array([classes.index(file.name.split("_")[0]) for file in files])
    for name in arguments.models:
        backbone = BACKBONES.get(name)
        found = find_weights(backbone, None, Progress())
        side = backbone.native_size
        trunk = backbone.build((side, side, 3))
        load_weights(trunk, backbone, found)
        tensors = read_tensors(found.path)
        kernel, bias = tensors["_fc.weight"].T, tensors["_fc.bias"]
        scaling = SCALINGS[backbone.scaling]
        for fit in (cropped, squashed):
            logits = []
            for start in range(0, len(files), 50):
                images = [
                    np.asarray(fit(Image.open(file).convert("RGB"), side))
                    for file in files[start : start + 50]
                ]
                pixels = np.stack(images).astype(np.float32) * scaling.scale + scaling.offset
                pooled = np.asarray(trunk.predict_on_batch(pixels)).mean(axis=(1, 2))
                logits.append(pooled @ kernel + bias)
            order = np.argsort(-np.concatenate(logits), axis=1)
            hits = order == labels[:, None]
            print(
                f"{name} at {side} px, {fit.__name__}: top-1 {hits[:, 0].mean():.3f}, "
                f"top-5 {hits[:, :5].any(axis=1).mean():.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
