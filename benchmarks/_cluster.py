"""A model of what work costs on a cluster, and a simulation of the cluster to check it against.

Both know independent jobs (runs of a study, blocks of images to predict) that wait for a driver, a
shared disk and a free slot, and one training over many devices that wait for each other at each
step. The model is a formula that names the first limit; the simulation plays the events with
durations that vary.
"""

import heapq
import math
import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Jobs:
    """Independent jobs.

    Attributes:
        n: Number of jobs.
        seconds: Time of a job on its cores, without waiting.
        cores: Cores of a job.
        start_s: Time until its process works.
        schedule_s: Time of the driver for each job, one after another.
        n_bytes: Bytes that it reads from the shared disk.
    """

    n: int
    seconds: float
    cores: int = 1
    start_s: float = 0.0
    schedule_s: float = 0.0
    n_bytes: float = 0.0


def expected(jobs: Jobs, cores: int, disk_bytes_s: float) -> tuple[float, str]:
    """Return the seconds for all jobs on so many cores, and what limits them."""
    slots = max(1, cores // jobs.cores)
    read = jobs.n_bytes / disk_bytes_s
    one = jobs.schedule_s + jobs.start_s + read + jobs.seconds
    limits = {
        "cores": math.ceil(jobs.n / slots) * one,
        "disk": jobs.n * read + one,
        "driver": jobs.n * jobs.schedule_s + one,
    }
    limit = max(limits, key=lambda name: limits[name])
    return limits[limit], limit


def simulated(
    jobs: Jobs, cores: int, disk_bytes_s: float, *, spread: float, lost: float, seed: int
) -> float:
    """Return the seconds until the last job ends.

    Args:
        jobs: Jobs.
        cores: Cores of the cluster.
        disk_bytes_s: Bytes that its disk gives in a second, to all together.
        spread: Standard deviation of the time of a job, a fraction of it.
        lost: Share of jobs whose worker is lost halfway; they begin anew.
        seed: Seed of the chances.
    """
    chance = random.Random(seed)
    free = [0.0] * max(1, cores // jobs.cores)
    driver = disk = end = 0.0
    left = jobs.n
    while left:
        left -= 1
        driver = max(driver, heapq.heappop(free)) + jobs.schedule_s
        disk = max(disk, driver + jobs.start_s) + jobs.n_bytes / disk_bytes_s
        took = jobs.seconds * max(0.1, chance.gauss(1, spread))
        if chance.random() < lost:
            took, left = took / 2, left + 1
        heapq.heappush(free, disk + took)
        end = max(end, disk + took)
    return end


@dataclass(frozen=True)
class Training:
    """One network over many devices.

    Attributes:
        n_images: Images of all epochs together.
        batch: Images of a step on one device.
        images_s: Images that one device alone trains on in a second.
        n_params: Parameters, whose gradients are averaged at each step in float32.
        image_bytes: Bytes of an image, read in each epoch.
    """

    n_images: int
    batch: int
    images_s: float
    n_params: int
    image_bytes: float


def step_limits(
    training: Training, devices: int, link_bytes_s: float, read_bytes_s: float, spread: float
) -> dict[str, float]:
    """Return the seconds of a step by what takes them; devices wait for the slowest.

    Args:
        training: Training.
        devices: Number of devices.
        link_bytes_s: Bytes that a device exchanges in a second.
        read_bytes_s: Bytes of images that a device gets in a second.
        spread: Standard deviation of a step's computation, a fraction of it.
    """
    slowest = 1 + spread * math.sqrt(2 * math.log(devices))
    ring = 2 * (devices - 1) / devices * 4 * training.n_params / link_bytes_s
    return {
        "computing": training.batch / training.images_s * slowest + ring,
        "reading": training.batch * training.image_bytes / read_bytes_s,
    }


def simulated_step(
    training: Training,
    devices: int,
    link_bytes_s: float,
    read_bytes_s: float,
    *,
    spread: float,
    seed: int,
    n_steps: int = 400,
) -> float:
    """Return the mean seconds of a step: devices read ahead, compute, and exchange together."""
    chance = random.Random(seed)
    one = training.batch / training.images_s
    read = training.batch * training.image_bytes / read_bytes_s
    ring = 2 * (devices - 1) / devices * 4 * training.n_params / link_bytes_s
    now, ready = 0.0, [read] * devices  # when the next batch of each device has been read
    for _ in range(n_steps):
        begun = [max(now, at) for at in ready]
        now = max(at + one * max(0.1, chance.gauss(1, spread)) for at in begun) + ring
        ready = [at + read for at in begun]
    return now / n_steps
