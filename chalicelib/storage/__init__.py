"""Tokens and clients in DynamoDB: the only deployed package that imports PynamoDB."""
