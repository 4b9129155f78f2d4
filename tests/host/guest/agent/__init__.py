"""The agent of the guest. It applies the settings like a BOSH agent and reports the devices of the VM."""
