"""The configuration file that ``memstack init`` writes."""

from __future__ import annotations

from typing import Final

__all__ = ["TEMPLATE"]

TEMPLATE: Final = """\
# The configuration of memstack. What is in force, and where it came from: `memstack config show`.
# Relative paths hang on the folder of this file. ${NAME} and ${NAME:-default} stand for environment variables; inside
# braces they have to be in quotes: {path: "${NAME}"}.
# Every option can be set by one too: MEMSTACK_VECTOR_STORE__PATH wins over `vector_store: {path: …}`.
# For completion in an editor: `memstack config schema > memstack.schema.json`.

# Where memories are kept: Qdrant Edge, inside this process, in a folder. No server, no key; one process at a time.
vector_store:
  provider: qdrant
  mode: embedded
  path: ./memory
  collection: memories

# Or, in its place, one of these:
# vector_store: {provider: qdrant, mode: server, url: "http://localhost:6333"}  # pip install "memstack[qdrant]"
# vector_store: {provider: qdrant, mode: memory}  # gone with the process, for tests; pip install "memstack[qdrant]"
# vector_store: {provider: chroma, mode: embedded, path: ./memory}  # pip install "memstack[chroma]"
# vector_store: {provider: chroma, mode: server, host: localhost, port: 8000}
# vector_store: {provider: pgvector, url: "postgresql://localhost/app"}  # pip install "memstack[pgvector]"
# vector_store: {provider: pgvector, mode: embedded, path: ./memory}

# What turns text into vectors: the built-in embedder, 256 dimensions. No download, no network.
# A collection belongs to the embedder that filled it: with another embedder, choose another collection.
embedder:
  provider: builtin

# Or, in its place, one of these:
# embedder: {provider: openai, model: text-embedding-3-small}  # the key: OPENAI_API_KEY; pip install "memstack[openai]"
# embedder: {provider: ollama, model: nomic-embed-text}  # pip install "memstack[ollama]"

# The language model that draws facts out of what was said. With none, what was said is stored as it was said.
llm:
  provider: none

# Or, in its place, one of these:
# llm: {provider: openai, model: gpt-4.1-nano}  # the key: OPENAI_API_KEY; pip install "memstack[openai]"
# llm: {provider: ollama, model: llama3.1, num_ctx: 16384}  # pip install "memstack[ollama]"

# The log of changes; by default beside the store.
# history: {provider: sqlite, path: ./memory/history.db}

# Whose messages are stored as said, where no language model is used:
# remember_roles: [user]

# Refuse every host that is not this machine, when the configuration is loaded:
# offline: true
"""
