/* make-model DIR: a tiny model with random weights, for the test of limn-sample. */
#include "support.h"

int main(int argc, char **argv) {
    limn_error error = {0};
    if (argc != 2 || make_model(argv[1], 1, NULL, &error)) {
        fprintf(stderr, "make-model: %s\n", argc == 2 ? error.message : "needs a folder");
        return 1;
    }
    return 0;
}
