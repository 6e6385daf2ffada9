"""One machine of a fleet. What has a network carries signed letters; what acts opens them, and believes no one else."""
