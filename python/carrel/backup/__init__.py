"""Backups of tenants: encrypted here, kept elsewhere, brought back whole."""
