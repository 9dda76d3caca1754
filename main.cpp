// The troupe binary.
#include "cli/options.hpp"

int main(int argc, char** argv) { return troupe::cli::main(argc, argv); }
