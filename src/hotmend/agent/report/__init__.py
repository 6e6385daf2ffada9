"""What is told to people and programs from memory and records."""
