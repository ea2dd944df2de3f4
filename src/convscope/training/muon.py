"""Muon for convolutions: steps that change all directions of a kernel equally."""

from collections.abc import Collection
from typing import Any

import keras

from convscope.models.keras_private import variable_index
from convscope.models.structure import as_functional

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 3
"""Newton-Schulz iterations; language models take five, here three give the same accuracy."""
_TINY = 1e-7
"""Added to norms that may be 0; less than the rounding error of any other norm."""


class Muon(keras.optimizers.SGD):
    """Orthogonalised momentum for kernels of convolutions, plain momentum for all other variables.

    A kernel counts as a matrix of inputs by outputs. Its step is its momentum with all singular
    values brought near 1, and the kernel is kept at the norm of such a matrix: its length does not
    matter to the normalisation behind it, but decides how far a step turns it. So `learning_rate`
    is the relative change of a kernel. Keras' own Muon leaves kernels of convolutions to AdamW.

    That length is given to a kernel in its first step, whatever it was, so this optimiser does not
    suit pretrained kernels. A kernel with gradient and momentum 0 is left alone.

    Args:
        learning_rate: Learning rate, as Keras takes it.
        separate: Paths of kernels that are no such matrix, see `separate_kernels`. They use plain
            momentum, and so does any kernel with a single output.
        **arguments: Arguments of Keras' SGD.

    References:
        Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """

    def __init__(
        self, learning_rate: Any = 0.01, *, separate: Collection[str] = (), **arguments: Any
    ) -> None:
        super().__init__(learning_rate, **arguments)
        # Keras tracks attributes of its objects, but leaves a frozenset alone.
        self._separate = frozenset(separate)

    def build(self, variables: Any) -> None:
        """Create the momentums, and note which variables are kernels that are orthogonalised."""
        self._turning = tuple(
            len(variable.shape) == 4
            and variable.shape[-1] > 1
            and variable.path not in self._separate
            for variable in variables
        )
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change one variable."""
        index = variable_index(self, variable)
        if not self._turning[index]:
            super().update_step(gradient, variable, learning_rate)
            return
        ops = keras.ops
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        ahead = gradient
        if self.momentum:
            velocity = self.momentums[index]
            moved = velocity * self.momentum + gradient
            self.assign(velocity, moved)
            ahead = gradient + moved * self.momentum if self.nesterov else moved
        matrix = ops.reshape(ahead, (-1, variable.shape[-1]))
        rank = min(matrix.shape)
        # As an array: JAX's `where` takes no variable.
        kernel = ops.convert_to_tensor(variable)
        kept = kernel * (rank**0.5 / (ops.norm(ops.reshape(kernel, (-1,))) + _TINY))
        step = ops.reshape(orthogonalised(matrix), variable.shape)
        moves = ops.any(ops.not_equal(ahead, 0))
        self.assign(variable, ops.where(moves, kept - rate * step, kernel))


def orthogonalised(matrix: Any) -> Any:
    """Return a matrix with the same singular vectors and all singular values near 1.

    Args:
        matrix: Shape (rows, columns).

    Returns:
        The same shape; singular values between about 0.7 and 1.2 for those that were not tiny.
    """
    ops = keras.ops
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(ops.reshape(x, (-1,))) + _TINY)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    return ops.transpose(x) if tall else x


def separate_kernels(model: keras.Model) -> list[str]:
    """Return the paths of kernels that treat channels, or groups of them, separately.

    Kernels of depthwise and grouped convolutions are many small matrices in one array, whose joint
    directions mean nothing.

    Args:
        model: Built model; models inside it are included.
    """
    found: list[str] = []
    for layer in as_functional(model).layers:
        if isinstance(layer, keras.Model):
            found += separate_kernels(layer)
        elif isinstance(layer, keras.layers.DepthwiseConv2D) or getattr(layer, "groups", 1) > 1:
            found += [weight.path for weight in layer.weights if len(weight.shape) == 4]
        elif isinstance(layer, keras.layers.SeparableConv2D):
            found.append(layer.depthwise_kernel.path)
    return found
