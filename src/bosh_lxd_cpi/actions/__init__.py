"""The methods of BOSH, one module for each kind of object."""
