"""What all messages have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstack.errors import ConfigError, InvalidInput, MetadataError, UnknownName
from memstack.metadata import check_metadata
from memstack.testing.contract.strategies import examples

# Surrogates, control characters, and whatever else there is.
TEXTS = st.text(st.characters(codec=None) | st.sampled_from("\0\x1b\ud800\udfff\u202e\n\t"), max_size=2000)
MAKES: list[Callable[[str, str, str], Exception]] = [
    InvalidInput,
    ConfigError,
    lambda where, name, choice: UnknownName(where, "option", name, [choice]),
]


@examples(200)
@given(st.sampled_from(MAKES), TEXTS, TEXTS, TEXTS)
def test_every_message_can_be_written(make: Callable[[str, str, str], Exception], a: str, b: str, c: str) -> None:
    """Whatever a caller named: the message has a bounded length, and can be encoded and printed."""
    message = str(make(a, b, c))
    message.encode()
    assert not {"\0", "\x1b", "\u202e"} & set(message)
    assert len(message) < 10_000
    assert "\n" not in message.partition(": ")[0]


@pytest.mark.parametrize("metadata", [{"x" * 10**6: b""}, {"x" * 10**6: {"y" * 10**6: [float("nan")]}}])
def test_long_names_are_shortened(metadata: Any) -> None:
    """Of a name that is too long the message has the beginning and the end."""
    with pytest.raises(MetadataError) as caught:
        check_metadata(metadata)
    assert caught.value.field.startswith("metadata.xxx")
    assert len(str(caught.value)) < 1000
