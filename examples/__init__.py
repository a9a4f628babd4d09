"""Applications that use the token service."""
