"""Clock, log, locks and other basics that every layer uses."""
