"""Studies of the baselines: each runs the figures of one method that are reported, over seeds."""
