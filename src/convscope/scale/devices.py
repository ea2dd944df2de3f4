"""The devices that train one network together, and the part of a batch that each process loads."""

from dataclasses import dataclass

from convscope.errors import ConfigError


@dataclass(frozen=True)
class Devices:
    """The devices of all processes of a training.

    Attributes:
        total: Number of devices, equally many for each process.
        n_processes: Number of processes.
        index: Index of this process.
    """

    total: int = 1
    n_processes: int = 1
    index: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process reports, and writes the run folder."""
        return self.index == 0

    def divide(self, n_images: int) -> bool:
        """Return whether a batch is divided among the devices.

        A batch that they cannot share equally, the last of an epoch, is computed whole by each of
        them: images that fill it up would change the statistics of BatchNormalization.
        """
        return n_images % self.total == 0

    def rows(self, n_images: int) -> slice:
        """Return which images of a batch this process loads."""
        if not self.divide(n_images):
            return slice(0, n_images)
        of_each = n_images // self.n_processes
        return slice(self.index * of_each, (self.index + 1) * of_each)

    def rounded_up(self, n_images: int) -> int:
        """Return the smallest number of images, not below the given one, that can be divided."""
        return -(-n_images // self.total) * self.total

    def require_divisible(self, batch_size: int) -> None:
        """Reject a batch size that cannot be divided among the devices.

        Raises:
            ConfigError: If it cannot.
        """
        if self.divide(batch_size):
            return
        below = batch_size - batch_size % self.total
        sizes = [str(size) for size in (below, below + self.total) if size]
        raise ConfigError(
            f"batches of {batch_size} images cannot be divided among {self.total} devices; "
            f"give --batch-size {' or '.join(sizes)}, or use a number of devices that divides it"
        )

    def __str__(self) -> str:
        """Return the numbers in words: "4 devices of 2 processes"."""
        devices = f"{self.total} device{'s' if self.total != 1 else ''}"
        return devices if self.n_processes == 1 else f"{devices} of {self.n_processes} processes"


ONE = Devices()
"""A training on one device."""
