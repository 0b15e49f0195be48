"""The tools of an agent. None opens a tenant's path by name: commands run in the sandbox, files by descriptor."""
