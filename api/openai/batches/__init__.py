"""Files and batches: the routes, and the driver that submits a batch's lines as jobs."""
