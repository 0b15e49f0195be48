"""Where a tenant's userland comes from: Nix closures, or the host's own /usr in a trial."""
