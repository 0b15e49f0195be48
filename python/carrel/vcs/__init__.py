"""Git, and edits of YAML in place."""
