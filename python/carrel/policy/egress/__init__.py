"""What may leave a sandbox: pure decisions about hosts, addresses and requests."""
