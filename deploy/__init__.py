"""From the repository to AWS: the package that a pipeline deploys (`make package`)."""
