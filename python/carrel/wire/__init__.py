"""Pure: the shapes of OpenAI, Anthropic, JSON-RPC, server-sent events and the control plane. No sockets."""
