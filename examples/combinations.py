"""Three engines times two providers: six memories, one program, the same answer.

python examples/combinations.py {qdrant,chroma,pgvector} {openai,ollama} [FOLDER]

OpenAI's key is read from OPENAI_API_KEY; Ollama is looked for on this machine, or at OLLAMA_HOST. The engines run in
this process, or beside it; configs/ shows how to reach servers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from memstack import MemoryGateway, open_memory

STORES = ("qdrant", "chroma", "pgvector")
MODELS: dict[str, dict[str, Any]] = {
    "openai": {
        "embedder": {"provider": "openai", "model": "text-embedding-3-small"},
        "llm": {"provider": "openai", "model": "gpt-4.1-nano"},
    },
    "ollama": {
        "embedder": {"provider": "ollama", "model": "nomic-embed-text"},
        "llm": {"provider": "ollama", "model": "llama3.2"},
    },
}


def run(memory: MemoryGateway) -> None:
    """Let the model draw facts out of a conversation, and find one again."""
    alex = memory.for_user("alex")
    alex.add("Hi! I prefer tasks scheduled in the morning. I work on the Phoenix project.")
    for fact in alex.get_all(order="created_at"):
        print(f"remembered: {fact.text}")
    for hit in alex.search("when should I plan my work?", limit=1):
        print(f"found: {hit.text} ({hit.score:.2f})")


if __name__ == "__main__":
    match sys.argv[1:]:
        case [store, model, *folder] if store in STORES and model in MODELS:
            path = Path(*folder or ["memory"]) / f"{store}-{model}"  # what one embedder wrote, another cannot read
        case _:
            raise SystemExit(__doc__)
    with open_memory({"vector_store": {"provider": store, "path": path}, **MODELS[model]}) as opened:
        run(opened)
