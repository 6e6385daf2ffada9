"""What was done by whom: rows that cannot be changed unseen."""
