"""Stores: engine adapters, each in modules of its own. `base` is the contract that they fulfil."""
