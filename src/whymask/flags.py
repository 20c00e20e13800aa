"""How settings become flags of the command line."""

import tyro

Flat = tyro.conf.arg(name="")
"""Marks a field of settings whose own fields are flags without a prefix."""
