"""The built-in embedder: a text has one vector, in whatever company it is embedded."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from memstack.providers.builtin import WordLlamaEmbedder


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_alone_or_with_others(text: str) -> None:
    """A text alone has the vector that it has among others; a batch pads it, so the last bits may differ."""
    embedder = WordLlamaEmbedder()
    (alone,) = embedder.vectors([text])
    among, _ = embedder.vectors([text, "quite another text, somewhat longer than the first one is"])
    assert np.allclose(alone, among, atol=1e-6)
