"""Accounts that a tenant's people have connected, and the tokens of them, which nobody but the gateway ever has."""
