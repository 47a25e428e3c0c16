"""Providers: what makes embedders and LLMs, one file each."""
