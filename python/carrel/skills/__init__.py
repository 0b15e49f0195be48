"""Skills: what an agent can be taught, as a text with a head that says what it is and what it needs."""
