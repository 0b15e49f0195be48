"""People talk to a tenant's agents through bots of messaging platforms: taken in once, answered once, told apart."""
