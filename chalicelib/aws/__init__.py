"""Calls to AWS without its SDK, whose loading and whose every call cost a small Lambda function most of its time."""
