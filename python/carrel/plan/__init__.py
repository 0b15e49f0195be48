"""Pure: declared and observed give actions. No I/O of any kind."""
