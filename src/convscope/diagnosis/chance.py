"""What may be chance: shares of right answers on few images."""


def fewer_right(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Return the probability that chance alone makes so much smaller a share of right answers.

    Args:
        one: Number of right answers and of images where fewer are suspected.
        other: The same of the others.

    Returns:
        The p value of Fisher's exact test, one-sided.

    References:
        Fisher, "Statistical Methods for Research Workers", 1934.

    Examples:
        >>> round(fewer_right((0, 1), (90, 100)), 3), round(fewer_right((2, 10), (90, 100)), 6)
        (0.109, 4e-06)
    """
    from scipy.stats import fisher_exact

    table = [[right, n_images - right] for right, n_images in (one, other)]
    return float(fisher_exact(table, alternative="less").pvalue)
