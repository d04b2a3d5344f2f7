"""raybench: a distributed benchmark framework for LLM serving on Ray."""

__version__ = "0.1.0"
