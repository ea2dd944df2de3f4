"""CIFAR-100: 60,000 colour photographs of a hundred kinds of things, 32 pixels wide."""

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.published.acquire import acquire
from convscope.datasets.published.cifar_files import SIDE, BatchFiles, parse_pickled
from convscope.datasets.published.collection import Collection
from convscope.datasets.published.http import HttpSource
from convscope.types import Dataset

_ARCHIVE, _ARCHIVE_MD5 = "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"

# No digests of the pixels are published, so the files are compared with the published MD5s.
PICKLED = BatchFiles(
    "cifar-100-python",
    ("train",),
    "test",
    parse_pickled(b"fine_labels"),
    md5={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
)

_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
    mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
    porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
    snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
    tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

CIFAR100 = Collection(
    name="cifar100",
    class_names=tuple(_CLASSES.split()),
    image_shape=(SIDE, SIDE, 3),
    n_train=50_000,
    n_test=10_000,
    forms=(PICKLED.unpacked(), PICKLED.packed(_ARCHIVE, _ARCHIVE_MD5)),
    sources=(
        HttpSource(
            "https://www.cs.toronto.edu/~kriz/",
            {_ARCHIVE: _ARCHIVE_MD5},
            PICKLED.packed(_ARCHIVE, _ARCHIVE_MD5).read,
        ),
    ),
    licence="none stated by its authors",
    citation=(
        "Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, "
        "technical report, University of Toronto, 2009"
    ),
    manual_download=f"{_ARCHIVE} (from https://www.cs.toronto.edu/~kriz/cifar.html)",
)


@DATASETS.register(
    "cifar100",
    n_classes=100,
    n_train=50_000,
    n_test=10_000,
    image_shape=(32, 32, 3),
    download_mb=169,
    licence=CIFAR100.licence,
)
def load_cifar100(request: DataRequest) -> Dataset:
    """CIFAR-100: 60,000 photographs of a hundred kinds of things.

    50,000 training and 10,000 test images of 32 x 32 pixels, RGB, with equal classes. The labels
    are the 100 fine ones, not the 20 coarse ones.

    Args:
        request: `data_dir` may hold cifar-100-python.tar.gz or its contents.

    Raises:
        DownloadError: If it could not be obtained.
        IntegrityError: If all that was found or downloaded was not CIFAR-100.

    References:
        https://www.cs.toronto.edu/~kriz/cifar.html
    """
    return acquire(CIFAR100, request)
