"""State of other systems, read and turned into a tenant of this one."""
