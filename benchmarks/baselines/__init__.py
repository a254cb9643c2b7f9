"""The studies of the other methods: a file a method, with its acceptance figures on whole MNIST."""
