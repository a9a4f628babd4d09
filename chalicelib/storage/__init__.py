"""Tokens and clients in DynamoDB: the only package that knows PynamoDB."""
