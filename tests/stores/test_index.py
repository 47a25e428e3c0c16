"""The index of a row: what lies in stores must be found by every later release, so it is written down here."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memstack.filters.ast import INSTANT_FIELDS
from memstack.gateway.drafts import Draft, payload_of
from memstack.metadata import check_metadata
from memstack.payload import INSTANTS, build, fingerprint_of
from memstack.records import Message, Source
from memstack.scope import Scope
from memstack.stores.index import eq_term, index_of
from memstack.testing.contract.strategies import examples, metadata

AT = datetime(2026, 3, 1, 8, 30, 0, 250_000, tzinfo=timezone.utc)
PAYLOAD = build(
    text="Did Ann plan the H\u00e4user of \u6771\u4eac\u90fd, getUserName?",
    scope=Scope("alex", None, "run-1"),
    metadata={
        "category": "projects",
        "big": 2**53 + 1,
        "ratio": 1e16,
        "done": True,
        "due": date(2026, 5, 1),
        "tags": ["a", 1, 2.5],
        "owner": {"name": "Bo", "$x": None},
        "since": "2026-01-02T03:04Z",
        "long": "y" * 300,
    },
    created_at=AT,
    updated_at=AT,
    occurred_at=datetime(2025, 12, 31, tzinfo=timezone.utc),
    expires_at=datetime(2027, 1, 1, tzinfo=timezone.utc),
    source=(Source("user", "Ann Lee", 7),),
)
WORDS = (
    "did ann plan the hauser of \u6771\u4eac \u4eac\u90fd getusername getusernam get user name \u6771 \u4eac \u90fd "
    f"projects project a bo 2026 01 02t03 02 t 03 04z 04 z {'y' * 64} {'y' * 63}i"
)
FACTS = {
    *("?3:big:", "=3:big:n9007199254740993", "?8:category:", "=8:category:sprojects", "?4:done:", "=4:done:b1"),
    *("?3:due:", "=3:due:t1777593600000000", "?4:long:", "=4:long:#d7ae9e3e46ada39bbc6d0b0084b3e8bd"),
    *("?5:owner:", "?10:owner.name:", "=10:owner.name:sBo", "?5:ratio:", "=5:ratio:n10000000000000000"),
    *("?5:since:", "=5:since:s2026-01-02T03:04Z", "?4:tags:", "@4:tags:n2.5", "@4:tags:n1", "@4:tags:sa"),
    *("?4:hash:", "=4:hash:sa2b1c5a8b89b090025108fb49f5d7266", "?8:actor_id:", "=8:actor_id:sAnn Lee"),
    *("?4:role:", "=4:role:suser", "&ann", "&lee"),
}


def test_what_is_stored_stays_what_it_is() -> None:
    """Every part of the index of one row with everything in it, to the letter."""
    index = index_of(PAYLOAD)
    assert index.fingerprint == "731667c6f9dbdf73f06da265e8154f12"
    assert index.words == WORDS.split()
    assert index.clue == f"5baeab4b547b7d29\t7\t ann lee \t?\t1767139200000000\t1772353800250000\t {WORDS} "
    assert set(index.facts) == FACTS
    assert len(index.facts) == len(FACTS)
    assert index.place == "5baeab4b547b7d29:7"
    assert index.own == ["^5baeab4b547b7d29:7", "!731667c6f9dbdf73f06da265e8154f12"]
    assert index.numbers == {"k48c42870bf7241177c44": 9007199254740993, "k9635e09d8b3ede554c77": 1e16}
    assert index.instants == {"k8fb0bc8754adc8a37a76": 1767323040000000, "k99ce482361d3f3fbdd49": 1777593600000000}
    assert index.times == {
        "created_at": 1772353800250000,
        "updated_at": 1772353800250000,
        "occurred_at": 1767139200000000,
        "expires_at": 1798761600000000,
    }


def test_terms_stay_what_they_are() -> None:
    """A name and a value of more than 200 characters are hashed; floats that are integers are spelt so."""
    assert eq_term("n", "v" * 198) == f"=1:n:s{'v' * 198}"
    assert eq_term("n", "v" * 199) == "=1:n:#c2772850ae34c00e9d90b78a8522c812"
    assert eq_term("n" * 199, "") == f"=199:{'n' * 199}:s"
    assert eq_term("n" * 201, "").startswith("=#79")
    tokens = [eq_term("n", value).removeprefix("=1:n:") for value in (2.0**53, -(2.0**63), 2.0**63, 1e300, 0.5)]
    assert tokens == ["n9007199254740992", "n-9223372036854775808", "n9.223372036854776e+18", "n1e+300", "n0.5"]


def test_a_fingerprint_that_is_known() -> None:
    """Where it is told the fingerprint, the index is the same."""
    assert index_of(PAYLOAD, fingerprint_of(PAYLOAD)) == index_of(PAYLOAD)


@examples(100)
@given(metadata, st.text(), st.sampled_from([None, "Ann"]), st.sampled_from([None, "user", "assistant"]))
def test_a_draft_knows_the_fingerprint_of_its_row(
    content: dict[str, Any], text: str, name: str | None, attributed_to: str | None
) -> None:
    """What duplicates are looked up by before a row is made is what the row has: of messages, and of facts."""
    scope = Scope("alex", run_id="run-1")
    checked = check_metadata(content, max_values=10_000, max_depth=50)
    said = Draft(0, Message("user", "what was said", name), scope, checked, None)
    fact = Draft(0, Message("user", text, name), scope, checked, None, said=(said,), attributed_to=attributed_to)
    for draft in (said, fact):
        assert fingerprint_of(payload_of(draft, AT, {0: 3})) == draft.fingerprint


def test_instants_are_the_same_to_rows_and_filters() -> None:
    """What a row keeps as an instant, a filter reads as one, and nothing else."""
    assert frozenset(INSTANTS) == INSTANT_FIELDS
