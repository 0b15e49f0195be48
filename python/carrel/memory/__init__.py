"""What a tenant's agents should remember: notes and files, found by their words and by their meaning."""
