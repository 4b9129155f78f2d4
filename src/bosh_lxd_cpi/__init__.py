"""A BOSH CPI for LXD and Incus."""

__version__ = "0.1.0"
