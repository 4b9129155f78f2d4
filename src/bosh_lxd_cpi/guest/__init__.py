"""What the VM will see: pure functions from BOSH documents to LXD and agent documents."""
