"""Holding frameworks against each other."""
