"""The composition roots: a module for each function, which builds what that function needs and nothing else."""
