"""What the VM sees: pure functions from BOSH documents to devices and agent settings."""
