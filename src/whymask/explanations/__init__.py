"""Why pretraining helped: measures of what networks captured, each a function of networks and images."""
