"""Checks that no tool has ready-made."""
