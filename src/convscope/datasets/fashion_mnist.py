"""Fashion-MNIST: 70,000 pictures of clothes, 28 pixels wide, grey, in the format of MNIST."""

from pathlib import Path

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.published.acquire import acquire
from convscope.datasets.published.collection import Collection
from convscope.datasets.published.http import HttpSource
from convscope.datasets.published.idx_files import digest_idx, gz_md5, idx_form, read_idx_folder
from convscope.types import Dataset

_MD5 = gz_md5(
    {
        "train_images": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train_labels": "25c81989df183df01b3e8a0aad5dffbe",
        "test_images": "bef4ecab320f06d8554ea6380940ec79",
        "test_labels": "bb300cfdad3c16e7a12a480ee83cd310",
    }
)

FASHION_MNIST = Collection(
    name="fashion_mnist",
    class_names=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    image_shape=(28, 28, 1),
    n_train=60_000,
    n_test=10_000,
    # Digests of the unpacked official files.
    sha256={
        "train_images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train_labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "test_images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "test_labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    digest=digest_idx,
    forms=(idx_form("FashionMNIST/raw"),),
    # Debian's package dataset-fashion-mnist: the official files, repacked.
    system_folders=(Path("/usr/share/datasets/fashion-mnist"),),
    sources=(
        HttpSource(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/", _MD5, read_idx_folder
        ),
    ),
    licence="MIT",
    citation=(
        "Han Xiao, Kashif Rasul, Roland Vollgraf, Fashion-MNIST: a Novel Image Dataset for "
        "Benchmarking Machine Learning Algorithms, arXiv:1708.07747, 2017"
    ),
    manual_download=(
        "train-images-idx3-ubyte.gz and the three other files of "
        "https://github.com/zalandoresearch/fashion-mnist"
    ),
)


@DATASETS.register(
    "fashion_mnist",
    n_classes=10,
    n_train=60_000,
    n_test=10_000,
    image_shape=(28, 28, 1),
    download_mb=31,
    licence=FASHION_MNIST.licence,
)
def load_fashion_mnist(request: DataRequest) -> Dataset:
    """Fashion-MNIST: 70,000 pictures of ten kinds of clothes.

    60,000 training and 10,000 test images of 28 x 28 pixels, grey: light on black. On Debian and
        Ubuntu the package dataset-fashion-mnist installs the files.

    Args:
        request: `data_dir` may hold the four official files, packed or not, also in
            FashionMNIST/raw.

    Raises:
        DownloadError: If it could not be obtained.
        IntegrityError: If all that was found or downloaded was not Fashion-MNIST.

    References:
        https://github.com/zalandoresearch/fashion-mnist
    """
    return acquire(FASHION_MNIST, request)
