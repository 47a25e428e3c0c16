"""``python -m memstack``: the command line."""

from memstack.cli import main

if __name__ == "__main__":
    main()
