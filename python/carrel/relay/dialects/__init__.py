"""The vendors' dialects on the pass-through path: one file for each, behind `protocol.CallFields`."""
