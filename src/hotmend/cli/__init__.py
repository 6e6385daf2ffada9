"""The command: one file per noun, each of them one use case and its output."""
