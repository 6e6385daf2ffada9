"""Stock servers from unpacked Debian packages: started, loaded, probed and stopped on loopback."""
