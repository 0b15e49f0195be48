"""The pass-through path: bytes relayed as they come, usage picked out on the way."""
