"""What runs in the guest in place of the BOSH agent: it obeys the settings and reports what the VM really saw."""
