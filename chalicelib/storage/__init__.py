"""Tokens and clients in DynamoDB: the only room that knows PynamoDB."""
