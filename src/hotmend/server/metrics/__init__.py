"""What Prometheus is told of the fleet."""
