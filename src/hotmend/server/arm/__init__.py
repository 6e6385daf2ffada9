"""Azure Resource Manager's routes over the machines of this server: what tools for Azure ask is done here for real."""
