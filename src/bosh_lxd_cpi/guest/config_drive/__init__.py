"""The config drive: settings for the BOSH agent as a small file system."""
