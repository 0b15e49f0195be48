"""The agent loop, its tools, its sessions and their transcripts."""
