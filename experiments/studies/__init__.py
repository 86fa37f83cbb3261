"""Studies: questions that are asked of many circuits, trainings or conditions at once."""
