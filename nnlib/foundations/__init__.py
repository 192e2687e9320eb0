"""Part I: the perceptron, the multi-layer perceptron, and how they are trained."""
