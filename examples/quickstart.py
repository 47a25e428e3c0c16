"""Remember, search, filter, change, and look back: the verbs that an application uses every day.

python examples/quickstart.py [FOLDER]
"""

from __future__ import annotations

import sys
from datetime import date

from memstack import F, MemoryGateway, Message, open_memory


def run(memory: MemoryGateway) -> None:
    """Walk through the verbs with one user's memory."""
    alex = memory.for_user("alex")

    result = alex.add(
        [
            Message("user", "I prefer tasks scheduled in the morning"),
            Message("assistant", "Noted!"),  # skipped: only what the user says is remembered
        ],
        metadata={"category": "preferences"},
    )
    print(f"stored {len(result.stored)}, skipped {[skipped.reason for skipped in result.skipped]}")
    alex.add("The Phoenix project is due in March", metadata={"category": "projects", "due": date(2027, 3, 1)})

    for hit in alex.search("when should I plan my work?", limit=1):
        print(f"found: {hit.text}")
    for project in alex.get_all(filters=(F.category == "projects") & (F.due < date(2027, 6, 1))):
        print(f"due {project.metadata['due']}: {project.text}")

    (preference,) = alex.get_all(filters={"category": "preferences"})
    alex.update(preference.id, text="I prefer tasks scheduled in the evening")
    for change in alex.history(preference.id):
        print(f"{change.event}: {change.old_text} -> {change.new_text}")
    print(f"deleted {alex.delete_all()}")


if __name__ == "__main__":
    with open_memory({"vector_store": {"path": sys.argv[1] if len(sys.argv) > 1 else "./memory"}}) as opened:
        run(opened)
