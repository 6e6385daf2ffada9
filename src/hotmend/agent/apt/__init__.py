"""What apt and dpkg say, and what is asked of them."""
