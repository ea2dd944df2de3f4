"""The plan of a run, sent by the first process of a training to the others."""

import json
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convscope.datasets.division.splits import verify_split
from convscope.errors import ConfigError, TrainingError
from convscope.models import is_backbone
from convscope.models.transfer import END
from convscope.planning.plan import Plan
from convscope.planning.settle import prepare
from convscope.progress import Progress
from convscope.recipe import RunConfig, dump_config, read_run_config
from convscope.run import Run
from convscope.scale.devices import ONE, Devices
from convscope.scale.multihost import from_first, leave


def require_trainable(config: RunConfig, devices: Devices) -> None:
    """Reject settings that cannot be trained on several devices.

    Raises:
        ConfigError: If there are several devices, and one of the settings forbids it.
    """
    if devices == ONE:
        return
    if is_backbone(config.model) and config.backbone.cut == END:
        raise ConfigError(
            f"recipe {config.recipe} trains only a head on frozen {config.model}, which takes one "
            "device seconds; omit --devices, or train more: --recipe finetune"
        )
    if config.backend != "jax":
        raise ConfigError(
            f"several devices train with backend jax, and the run has {config.backend}; resume it "
            "without --devices, or start a new run"
        )
    if config.refit and devices.n_processes > 1:
        raise ConfigError(
            "several processes cannot train once more at the end; omit --refit, and "
            "afterwards, in one process: convscope train --resume RUN --refit"
        )
    devices.require_divisible(config.batch_size)


def send_plan(plan: Plan, run: Run, devices: Devices) -> None:
    """Send a plan to the processes that wait for it in `receive_plan`.

    Args:
        plan: Plan of this process, the first.
        run: Run that it writes.
        devices: Devices of the training.
    """
    if devices.n_processes > 1:
        split = run.split_file.read_bytes().decode()  # as bytes: line ends in names stay
        start = {"config": dump_config(plan.config), "split": split, "run": str(run.path)}
        from_first(devices, _packed(start))


def receive_plan(devices: Devices, data_dir: Path | str | None) -> tuple[Plan, Run]:
    """Return the plan of the first process, with this one's copy of the data, and its run.

    Args:
        devices: Devices of the training.
        data_dir: Further folder to look for the files of a built-in dataset.

    Raises:
        TrainingError: If the first process could not begin.
        DataError: If the images here are not those of the first process.
    """
    start = json.loads(zlib.decompress(from_first(devices, b"")))
    if "failure" in start:
        leave()
        raise TrainingError(f"process 0 could not begin: {start['failure']}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Run(Path(folder))
        settings, images = copy.config_file, copy.split_file
        settings.write_text(start["config"], encoding="utf-8")
        images.write_bytes(start["split"].encode())
        plan = prepare(read_run_config(settings), Progress(), data_dir, images)
        for part in ("train", "val"):
            verify_split(plan.dataset, images, part)
    return plan, Run(Path(start["run"]))


@contextmanager
def failures_told(devices: Devices) -> Iterator[None]:
    """Tell the processes that wait in `receive_plan` if the first one cannot begin."""
    try:
        yield
    except BaseException as error:
        if devices.n_processes > 1:
            with suppress(Exception):  # the others may be gone, too
                from_first(devices, _packed({"failure": str(error) or type(error).__name__}))
                leave()
        raise


def _packed(content: dict[str, str]) -> bytes:
    return zlib.compress(json.dumps(content).encode())
