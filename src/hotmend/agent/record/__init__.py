"""What the agent keeps in files: its history, the hold, the quarantine."""
