"""Pure decisions: allow, limit, route, price. No I/O of any kind."""
