"""MCP servers at the gateway: reached by a tenant's programs, with a credential that these never have."""
