"""Checks that no tool has ready-made; each runs on the Python of `.venv-checks`, which knows nothing of the service."""
