"""What happens for a tenant, told to whoever listens: numbered, kept a little while, never waited for."""
