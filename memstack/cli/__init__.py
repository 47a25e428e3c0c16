"""The command line: ``memstack --help``. Commands import what they need when they run: ``--help`` loads no backend."""

from memstack.cli.app import app, main

__all__ = ["app", "main"]
