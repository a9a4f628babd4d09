"""What the service does under load: `python -m bench.load`. See docs/load.md."""
