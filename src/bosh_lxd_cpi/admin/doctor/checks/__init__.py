"""The checks of bin/doctor."""
