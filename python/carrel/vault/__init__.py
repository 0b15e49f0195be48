"""Each tenant's secrets, encrypted at rest under keys that are kept elsewhere."""
