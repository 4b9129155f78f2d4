"""What BOSH asks for: one module a noun."""
