"""Runs a tenant's commands under bubblewrap, by way of a launcher process that is never uid 0."""
