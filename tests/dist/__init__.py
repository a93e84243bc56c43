"""The wheel and the sdist that `make dist` has built, and the files of the project that other programs read."""
