"""A task API that knows the person it works for: FastAPI, tasks in SQLite, memory in memstack."""
