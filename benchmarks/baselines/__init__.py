"""Studies of the baselines: for each method the figures by which its paper is judged, on whole MNIST over seeds."""
