"""The JSON-RPC methods: one typed function each, in one registry, with its parameters and result in `wire.rpc`."""
