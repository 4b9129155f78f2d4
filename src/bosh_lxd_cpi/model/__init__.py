"""Names and labels of what the CPI creates on the server."""
