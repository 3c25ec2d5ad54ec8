"""The two orders in which a head's dimensions are paired by rotary positions (arXiv 2104.09864).

Meta's own files, llama2.c and GGUF turn the neighbours (0, 1), (2, 3), ...; Hugging Face and we turn (i, i + head_dim / 2).
Both compute the same once the rows of the query and key matrices are put in the other order.
"""

import numpy as np


def halves(x: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads x head_dim, inputs) paired as neighbours, in the order in which they are paired as halves."""
    pairs = x.reshape(heads, -1, 2, *x.shape[1:])
    return np.swapaxes(pairs, 1, 2).reshape(x.shape)
