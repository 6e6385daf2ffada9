"""Work that survives the process that does it: workflows in a database."""
