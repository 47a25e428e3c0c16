"""Judging: whether a new statement contradicts what is remembered, asked of the language model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from memstack.metadata import sound_text

if TYPE_CHECKING:
    from memstack.providers.base import LLM

__all__ = ["Verdict", "judge"]

_TASK: Final = """You compare a new statement with memories of the same person.
A memory is contradicted when it cannot be true any more once the new statement is: the person changed their mind, \
moved, finished something, or corrected it. A memory that is merely about the same topic, more general, or more \
detailed is not contradicted.
Answer with one JSON object and nothing else, with one verdict for every memory:
{"verdicts": [{"memory": 0, "contradicts": true, "reason": "one short sentence"}]}"""
_LONGEST_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model says of one memory."""

    contradicts: bool
    reason: str


def judge(llm: LLM, statement: str, memories: Sequence[str]) -> list[Verdict | None]:
    """Ask which memories a statement contradicts.

    Args:
        llm: the model.
        statement: the new one.
        memories: the texts of stored ones.

    Returns:
        A verdict for each memory; None where the answer has none that can be read.

    Raises:
        ProviderError: the model failed.
    """
    question = {"new statement": statement, "memories": [{"memory": i, "text": t} for i, t in enumerate(memories)]}
    answer = llm.generate_response(
        [
            {"role": "system", "content": _TASK},
            {"role": "user", "content": json.dumps(question, ensure_ascii=False)},
        ],
        response_format={"type": "json_object"},
    )
    found = _read(answer)
    return [found.get(i) for i in range(len(memories))]


def _read(answer: object) -> dict[int, Verdict]:
    content = _object(answer) if isinstance(answer, str) else answer
    listed = content.get("verdicts") if isinstance(content, Mapping) else None
    found: dict[int, Verdict] = {}
    for item in listed if isinstance(listed, list) else []:
        if not isinstance(item, Mapping):
            continue
        place, verdict, reason = item.get("memory"), item.get("contradicts"), item.get("reason")
        if type(place) is int and isinstance(verdict, bool):
            text = " ".join(sound_text(reason).split()) if isinstance(reason, str) else ""
            found[place] = Verdict(verdict, text[:_LONGEST_REASON] or "the model gave no reason")
    return found


def _object(answer: str) -> Any:
    """The JSON object in an answer, also between other words."""
    start, end = answer.find("{"), answer.rfind("}")
    try:
        return json.loads(answer[start : end + 1]) if start != -1 else None
    except (ValueError, RecursionError):
        return None
