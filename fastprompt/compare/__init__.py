"""Comparing frameworks with each other."""
