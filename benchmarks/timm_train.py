"""timm's own train script on the tutorial's CNN, for its time per epoch beside ours.

    git clone https://github.com/huggingface/pytorch-image-models
    python benchmarks/timm_train.py pytorch-image-models --png cifar-png --epochs 3
    convscope train --epochs 3

Writes CIFAR-10's 50,000 training images, divided as convscope divides them, as PNG files in folders
(kept for the next call), makes the network known to timm and runs `train.py` of the clone: batches
of 128, Adam, no augmentation, two processes that read files, on the CPU. `--amp` trains under
autocast to bfloat16. Other arguments go to `train.py`. Needs `timm` and `torchvision`. Its lines
tell the time of a batch; the time of an epoch with validation is printed at the end. The processes
that read files are not in its CPU seconds.
"""

import argparse
import runpy
import sys
import time
from pathlib import Path
from typing import Any

from _lanes import Clock, torch_cnn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clone", type=Path, help="folder with timm's train.py")
    parser.add_argument("--png", type=Path, required=True, help="folder for the PNG files")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--amp", action="store_true", help="autocast to bfloat16")
    options, others = parser.parse_known_args()
    write_images(options.png)

    import timm.models
    import timm.utils

    @timm.models.register_model
    def tutorial_cnn(pretrained: bool = False, **settings: Any) -> Any:
        del pretrained, settings
        model = torch_cnn()
        model.num_classes, model.default_cfg = 10, {}
        return model

    # How timm ends an epoch: it writes a line of its table.
    ends, write_line = [], timm.utils.update_summary

    def with_time(*facts: Any, **more: Any) -> None:
        ends.append(clock.seconds())
        write_line(*facts, **more)

    timm.utils.update_summary = with_time
    arguments = f"""
        --data-dir {options.png} --val-split val --model tutorial_cnn --num-classes 10
        --img-size 32 --crop-pct 1 --mean 0 0 0 --std 1 1 1 --no-aug --workers 2
        --batch-size 128 --validation-batch-size 512 --smoothing 0
        --opt adam --opt-eps 1e-7 --weight-decay 0 --lr 0.001 --warmup-epochs 0
        --sched step --decay-rate 1 --decay-epochs 100
        --device cpu --channels-last --epochs {options.epochs}
        --output {options.png.parent / "timm-output"}
    """.split()
    if options.amp:
        arguments += ["--amp", "--amp-dtype", "bfloat16"]
    sys.argv = ["train.py", *arguments, *others]
    clock = Clock()
    runpy.run_path(str(options.clone / "train.py"), run_name="__main__")
    before = (0.0, 0.0)
    for index, end in enumerate(ends):
        wall, cpu = (b - a for a, b in zip(before, end, strict=True))
        print(f"epoch {index + 1}: {wall:.2f} s, {cpu:.2f} CPU s of the main process")
        before = end


def write_images(folder: Path) -> None:
    """Write CIFAR-10 as convscope divides it as `train/CLASS/ID.png` and `val/CLASS/ID.png`."""
    from PIL import Image

    import convscope
    from convscope.progress import ConsoleProgress

    done = folder / "done"
    if done.exists():
        return
    dataset = convscope.load("cifar10", progress=ConsoleProgress())
    assert dataset.val is not None
    for name, part in (("train", dataset.train), ("val", dataset.val)):
        for index, label in enumerate(part.labels):
            file = folder / name / dataset.class_names[label] / f"{index:05}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(part.images[index]).save(file)
    done.write_text(time.strftime("%Y-%m-%d\n"))


if __name__ == "__main__":
    main()
