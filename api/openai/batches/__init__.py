"""Files and batches: the routes, and the driver that enters a batch's lines as jobs."""
