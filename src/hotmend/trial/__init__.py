"""Trying a hotpatch out: in a host process against the new build, and in a stand-in of a server."""
