"""What the service does under load: `python -m studies.load`. See docs/load.md."""
