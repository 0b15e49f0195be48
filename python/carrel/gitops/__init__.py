"""Declarations that come through git: followed as they are pushed or pulled, changed by commits, looked back upon."""
