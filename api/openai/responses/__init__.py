"""`/v1/responses`: a generation's job as a response object with numbered events."""
