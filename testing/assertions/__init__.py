"""What is true of an observation: subjects, operators, and results that say expected, actual and where."""
