"""HTTP in, HTTP out: routes, the types of requests and answers, and what they mean."""
