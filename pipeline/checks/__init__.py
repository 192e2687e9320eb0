"""What must hold of the repository: pairs, equations, times, packages."""
