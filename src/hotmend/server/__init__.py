"""The control plane: one place that keeps a fleet on the line. It directs; it can sign no hotpatch."""
