"""The studies of the other methods: one script a method, rows in ``notebooks/results``."""
