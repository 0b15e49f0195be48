"""What tenants.d may say: models, loading with positions, JSON Schema. Knows nothing of a running gateway."""
