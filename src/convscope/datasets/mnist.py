"""MNIST: 70,000 handwritten digits, 28 pixels wide, grey."""

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.published.acquire import acquire
from convscope.datasets.published.collection import Collection
from convscope.datasets.published.http import HttpSource
from convscope.datasets.published.idx_files import digest_idx, gz_md5, idx_form, read_idx_folder
from convscope.types import Dataset

_MD5 = gz_md5(
    {
        "train_images": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train_labels": "d53e105ee54ea40749a09fcbcd1e9432",
        "test_images": "9fb629c4189551a2d022fa330f9573f3",
        "test_labels": "ec29112dd5afa0611ce80d1b7f02629c",
    }
)

MNIST = Collection(
    name="mnist",
    class_names=tuple("0123456789"),
    image_shape=(28, 28, 1),
    n_train=60_000,
    n_test=10_000,
    # Digests of the unpacked official files.
    sha256={
        "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    digest=digest_idx,
    forms=(idx_form("MNIST/raw"),),
    sources=(
        HttpSource("http://yann.lecun.com/exdb/mnist/", _MD5, read_idx_folder),
        HttpSource("https://ossci-datasets.s3.amazonaws.com/mnist/", _MD5, read_idx_folder),
    ),
    licence="CC BY-SA 3.0",
    citation=(
        "Yann LeCun, Léon Bottou, Yoshua Bengio, Patrick Haffner, Gradient-based learning applied "
        "to document recognition, Proceedings of the IEEE 86 (11), 1998"
    ),
    manual_download="train-images-idx3-ubyte.gz and the three other files of MNIST",
)


@DATASETS.register(
    "mnist",
    n_classes=10,
    n_train=60_000,
    n_test=10_000,
    image_shape=(28, 28, 1),
    download_mb=12,
    licence=MNIST.licence,
    mirrored=False,
)
def load_mnist(request: DataRequest) -> Dataset:
    """MNIST: 70,000 handwritten digits.

    60,000 training and 10,000 test images of 28 x 28 pixels, grey: white on black.

    Args:
        request: `data_dir` may hold the four official files, packed or not, also in MNIST/raw.

    Raises:
        DownloadError: If it could not be obtained.
        IntegrityError: If all that was found or downloaded was not MNIST.

    References:
        LeCun et al., "Gradient-based learning applied to document recognition", 1998.
    """
    return acquire(MNIST, request)
