"""What ranking looks at of a memory."""

from __future__ import annotations

import pytest

from memstack.clues import read_clue, word_keys, write_clue


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        *(
            (f"do you like tea{end}", True)
            for end in ("?", " ?", "?\n", "? \r\n\t", '?")', "?*\n", "\uff1f", "?\u00bb ")
        ),
        *((f"like tea? I do{end}", False) for end in ("", ".", "\n", ")")),
        ("", False),
    ],
)
def test_what_is_a_question(text: str, asks: bool) -> None:
    """A text that ends with a question mark asks, whatever closes it, and whatever white space is left behind it."""
    assert read_clue("1", write_clue({"data": text})).asks is asks


def test_each_word_is_told_once() -> None:
    """A word that the text and the metadata have, however often, is one key; all of them are there, in their order."""
    assert word_keys({"data": "tea and tea", "tags": ["tea", "milk"], "of": {"a": ["milk", "rum"]}}) == [
        "tea", "and", "milk", "rum",
    ]  # fmt: skip
