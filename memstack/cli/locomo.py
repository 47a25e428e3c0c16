"""LoCoMo's JSON (``snap-research/locomo``): one user for each conversation, one run for each session.

Every turn becomes a message of role ``user``, for both speakers are people: its speaker is the name, and the time of
the session, plus a second for every turn before it, is when it was said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from memstack.errors import describe

__all__ = ["is_conversation", "read_time", "turns"]

Turn = tuple[str, Mapping[str, Any] | None, str]
_SESSION: Final = re.compile(r"session_(\d{1,9})", re.ASCII)
_TIME: Final = re.compile(r"(\d{1,2}):(\d{2})\s*([ap])\.?m\.?\s+on\s+(\d{1,2})\s+([a-z]+),?\s+(\d{4})", re.ASCII)
_LAST: Final = datetime.max.replace(tzinfo=timezone.utc)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def is_conversation(value: object) -> bool:
    """Whether this is one of LoCoMo's conversations."""
    return isinstance(value, Mapping) and "sample_id" in value and isinstance(value.get("conversation"), Mapping)


def turns(document: list[Any]) -> Iterator[Turn]:
    """The turns of some conversations, in order.

    Args:
        document: the conversations.

    Yields:
        Where the turn stands; the item for `MemoryGateway.add_many`, or None; and why there is none.
    """
    for number, sample in enumerate(document, 1):
        if not is_conversation(sample):
            yield f"conversation {number}", None, "has no `sample_id` and `conversation`"
            continue
        sample_id, conversation = sample["sample_id"], sample["conversation"]
        if not isinstance(sample_id, str):
            yield f"conversation {number}", None, f"has a `sample_id` that is {describe(sample_id)}, not a string"
            continue
        for session, said in _sessions(conversation):
            yield from _turns_of(sample_id, session, said, conversation.get(f"session_{session}_date_time"))


def read_time(text: object) -> datetime | None:
    """The time of a session, as LoCoMo writes it (``1:56 pm on 8 May, 2023``), in UTC; None where it is none."""
    found = _TIME.fullmatch(text.strip().lower()) if isinstance(text, str) else None
    if found is None:
        return None
    hour, minute, half, day, month, year = found.groups()
    if month[:3] not in _MONTHS or not 1 <= int(hour) <= 12:  # noqa: PLR2004  # a clock's face
        return None
    hours = int(hour) % 12 + (12 if half == "p" else 0)
    try:
        return datetime(int(year), _MONTHS.index(month[:3]) + 1, int(day), hours, int(minute), tzinfo=timezone.utc)
    except ValueError:
        return None


def _sessions(conversation: Mapping[str, Any]) -> list[tuple[int, Any]]:
    found = [(int(name[1]), value) for key, value in conversation.items() if (name := _SESSION.fullmatch(key))]
    return sorted(found, key=lambda pair: pair[0])


def _turns_of(sample_id: str, session: int, said: object, when: object) -> Iterator[Turn]:
    run = f"{sample_id}/session_{session}"
    if not isinstance(said, list):
        yield run, None, f"is {describe(said)}, not a list of turns"
        return
    began = read_time(when)
    for number, turn in enumerate(said):
        place = f"{run}[{number}]"
        if not isinstance(turn, Mapping):
            yield place, None, f"is {describe(turn)}, not a turn"
        elif began is None or number > (_LAST - began).total_seconds():
            yield place, None, f"session_{session}_date_time is no time such as '1:56 pm on 8 May, 2023'"
        else:
            yield place, _item(sample_id, run, session, turn, began + timedelta(seconds=number)), ""


def _item(sample_id: str, run: str, session: int, turn: Mapping[str, Any], when: datetime) -> dict[str, Any]:
    metadata: dict[str, Any] = {"dia_id": turn.get("dia_id"), "session": session}
    if turn.get("blip_caption"):
        metadata["caption"] = turn["blip_caption"]
    return {
        "user_id": sample_id,
        "run_id": run,
        "role": "user",
        "name": turn.get("speaker"),
        "content": turn.get("text"),
        "occurred_at": when,
        "metadata": metadata,
    }
