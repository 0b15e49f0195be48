"""Reservations, the ledger, quotas in use, and the report."""
