"""What bin/doctor looks at: one module a thing to look at, one function a check."""
