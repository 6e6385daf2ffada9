"""One machine kept up to date: what its package manager has waiting, in memory first, then on disk."""
