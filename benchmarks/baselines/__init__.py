"""Studies of the baselines: does each reach what its paper says of it?"""
