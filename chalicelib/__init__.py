"""The token service: grants and spends tokens that stand for a secret document id."""

__version__ = "0.2.0"
