"""The guard: fail2ban and nftables, set up for the broker that the kit runs."""
