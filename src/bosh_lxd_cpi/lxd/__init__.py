"""What the LXD or Incus server offers."""
