"""The use cases, and the one choke point that all of them pass: `app.access`."""
