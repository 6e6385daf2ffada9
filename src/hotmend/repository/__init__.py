"""Releases as values, and the signed repository (TUF) that they travel in: publishing, signing offline, fetching."""
