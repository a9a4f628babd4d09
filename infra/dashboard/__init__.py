"""The picture of the CloudWatch dashboard, drawn from its definition with generated data."""
