"""What is computed from private rows and how it is stored: rows, specialists, heads, commits, log, state root."""
