"""The token service: issues and spends tokens that hide a secret document id."""

__version__ = "0.2.0"
