"""The acceptance figures of the baselines, each on whole MNIST over seeds."""
