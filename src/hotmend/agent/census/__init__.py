"""What runs on this machine, with which code, and what is due."""
