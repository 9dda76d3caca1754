// Writes the tiny test model to the path given, for tests that are programs.
#include "support/tiny_model.hpp"

int main(int argc, char** argv) { return argc == 2 && troupe::test::write_tiny_model(argv[1]) ? 0 : 1; }
