"""Carrel: a self-hosted, multi-tenant gateway for AI agents."""

__version__ = "0.1.0"
