"""The figures of each baseline on MNIST, rows in ``notebooks/results``."""
