"""Muon for convolutions: steps that change all directions of a kernel alike."""

from typing import Any

import keras

from convscope.models.keras_private import variable_index

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 3
"""Of the Newton-Schulz iteration; language models take five, here three give the same accuracy."""


class Muon(keras.optimizers.SGD):
    """Orthogonalised momentum for kernels of convolutions, plain momentum for all other variables.

    A kernel counts as a matrix of inputs by outputs. Its step is its momentum with all singular
    values brought near 1, and the kernel is kept at the norm of such a matrix: its length does not
    matter to the normalisation behind it, but decides how far a step turns it. So `learning_rate`
    is the relative change of a kernel. Keras' own Muon leaves kernels of convolutions to AdamW.

    References:
        Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Change one variable."""
        if len(variable.shape) != 4:
            super().update_step(gradient, variable, learning_rate)
            return
        ops = keras.ops
        rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        velocity = self.momentums[variable_index(self, variable)]
        moved = velocity * self.momentum + gradient
        self.assign(velocity, moved)
        ahead = gradient + moved * self.momentum if self.nesterov else moved
        matrix = ops.reshape(ahead, (-1, variable.shape[-1]))
        rank = min(matrix.shape)
        kept = variable * (rank**0.5 / ops.norm(ops.reshape(variable, (-1,))))
        step = ops.reshape(orthogonalised(matrix), variable.shape)
        self.assign(variable, kept - rate * step)


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
    x = x / (ops.norm(ops.reshape(x, (-1,))) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    return ops.transpose(x) if tall else x
