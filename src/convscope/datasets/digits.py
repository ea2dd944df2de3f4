"""scikit-learn's digits: 1,797 handwritten digits, 8 pixels wide, grey."""

import hashlib

import numpy as np

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.published.acquire import image_ids
from convscope.errors import MissingExtraError
from convscope.types import Dataset, Split, UInt8Array

_GREATEST = 16  # scikit-learn's pixels count dark dots in blocks of 4 x 4
_LICENCE = "CC BY 4.0"


@DATASETS.register(
    "digits",
    n_classes=10,
    n_train=1_797,
    n_test=0,
    image_shape=(8, 8, 1),
    download_mb=0,
    licence=_LICENCE,
    mirrored=False,
)
def load_digits(request: DataRequest) -> Dataset:
    """Digits: 1,797 small handwritten digits that come with scikit-learn.

    8 x 8 pixels, grey: white on black, scaled from 0..16 to 0..255. It has no official test part.
    For experiments: nothing is downloaded and training takes seconds.

    Args:
        request: Request, unused here.

    Raises:
        MissingExtraError: If scikit-learn is not installed.

    References:
        UCI Machine Learning Repository, "Optical Recognition of Handwritten Digits".
    """
    del request
    try:
        from sklearn.datasets import load_digits as load_bunch
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "train") from error
    bunch = load_bunch()
    scaled = np.rint(bunch.images * (255 / _GREATEST))
    images: UInt8Array = scaled.astype(np.uint8)[..., np.newaxis]  # (n, 8, 8, 1)
    labels = bunch.target.astype(np.int64)
    return Dataset(
        name="digits",
        class_names=tuple("0123456789"),
        train=Split(images, labels, image_ids("train", len(labels), digits=4)),
        provenance={
            "source": "scikit-learn, sklearn.datasets.load_digits",
            "licence": _LICENCE,
            "citation": (
                "E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, "
                "UCI Machine Learning Repository, 1998"
            ),
            "checksum": f"sha256 train_images:{hashlib.sha256(images.tobytes()).hexdigest()}",
        },
    )
