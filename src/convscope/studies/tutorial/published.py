"""The figures that the tutorial printed, on CIFAR-10."""

from dataclasses import dataclass

DATA = "cifar10"
"""Data that the figures are of; on other data they cannot be compared."""


@dataclass(frozen=True)
class Figures:
    """A result of the tutorial.

    Attributes:
        accuracy: Test accuracy, a fraction in [0, 1].
        loss: Test loss in nats.
        n_params: Number of parameters, the backbone's included.
        n_trainable: Number of those that are trained.
    """

    accuracy: float
    loss: float
    n_params: int
    n_trainable: int


STYLES = {
    "cnn-sequential": Figures(0.7020, 1.5397, 582_026, 582_026),
    "cnn-functional": Figures(0.7008, 1.7000, 582_026, 582_026),
    "cnn-subclassing": Figures(0.7104, 1.6596, 582_026, 582_026),
}

BACKBONES = {
    "vgg16": Figures(0.6037, 1.1999, 14_789_258, 74_570),
    "mobilenet_v2": Figures(0.3470, 1.8455, 2_430_858, 172_874),
    "resnet50_v2": Figures(0.3629, 2.8342, 23_835_978, 271_178),
}
