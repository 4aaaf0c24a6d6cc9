"""pagedbench: what KV-cache memory management buys, measured."""

__version__ = "0.1.0"
