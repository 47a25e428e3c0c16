"""Stores: engine adapters, one file each. `base` is the contract that they fulfil."""
