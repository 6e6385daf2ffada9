"""Azure Arc: a connector to Microsoft's control plane, and routes of the same shapes for one of one's own."""
