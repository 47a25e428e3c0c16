"""Mem0's extraction prompt, from its own source, without importing Mem0."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ExtractionPrompt = Callable[..., list[dict[str, str]]]


@pytest.fixture(scope="session")
def extraction_prompt() -> ExtractionPrompt:
    """``extraction_prompt(new_messages, **others)``: what Mem0 sends to an LLM to have memories extracted."""
    package = find_spec("mem0")
    assert package is not None
    assert package.origin is not None
    spec = spec_from_file_location("mem0_prompts", Path(package.origin).parent / "configs" / "prompts.py")
    assert spec is not None
    assert spec.loader is not None
    prompts = module_from_spec(spec)
    spec.loader.exec_module(prompts)

    def messages(new_messages: Any, **others: Any) -> list[dict[str, str]]:
        user = prompts.generate_additive_extraction_prompt(new_messages=new_messages, **others)
        return [
            {"role": "system", "content": prompts.ADDITIVE_EXTRACTION_PROMPT},
            {"role": "user", "content": user},
        ]

    return messages
