/* The whole of main(): names, signals, subcommands, exit codes. */
#include "core/internal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stop_requested;

bool limn_stop_requested(void) {
    return stop_requested != 0;
}

static void on_signal(int signal_number) {
    (void)signal_number;
    if (stop_requested) _exit(LIMN_EXIT_INTERRUPTED);
    stop_requested = 1;
}

static void install_signals(void) {
    /* No SA_RESTART: a read or wait that would last for ever is to come back with EINTR and look at the flag. */
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL); /* a file over the user's size limit is a failed write, like a full disk */
}

static int run_and_report(int argc, char **argv, limn_main_function function) {
    limn_error error = {0};
    install_signals();
    (void)limn_get_threads(); /* decides, and tells OpenMP */
    int result = function(argc, argv, &error);
    if (result == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        result = limn_fail(&error, "cannot write to standard output: %s", strerror(errno));
    if (result != 0) {
        if (!error.message[0]) limn_fail(&error, "failed without saying why; please report this as a fault of the program");
        pthread_mutex_lock(&limn_terminal_lock);
        limn_progress_hide();
        fprintf(stderr, "%s: %s\n", limn_program_name(), error.message);
        pthread_mutex_unlock(&limn_terminal_lock);
        if (error.exit_code == LIMN_EXIT_USAGE || error.exit_code == LIMN_EXIT_INTERRUPTED) return error.exit_code;
        return stop_requested ? LIMN_EXIT_INTERRUPTED : LIMN_EXIT_FAILED; /* a run says where it stopped by an error */
    }
    return stop_requested ? LIMN_EXIT_INTERRUPTED : LIMN_EXIT_DONE;
}

int limn_main(int argc, char **argv, limn_main_function function) {
    if (argc > 0) limn_set_program_name(limn_base_name(argv[0]));
    return run_and_report(argc, argv, function);
}

static void print_subcommands(const char *program, const char *summary, const limn_subcommand *subcommands) {
    size_t width = 0;
    for (const limn_subcommand *each = subcommands; each->name; each++)
        if (strlen(each->name) > width) width = strlen(each->name);
    printf("%s: %s\n\nusage: %s COMMAND [options]\n\ncommands:\n", program, summary, program);
    for (const limn_subcommand *each = subcommands; each->name; each++)
        printf("  %-*s  %s\n", (int)width, each->name, each->summary);
    printf("\n'%s COMMAND --help' says more of one of them.\n", program);
}

static const limn_subcommand *find_subcommand(const limn_subcommand *subcommands, const char *name) {
    for (; subcommands->name; subcommands++)
        if (strcmp(subcommands->name, name) == 0) return subcommands;
    return NULL;
}

enum { SUBCOMMANDS_MAX = 32 };

static int unknown_subcommand(const char *program, const limn_subcommand *subcommands, const char *given) {
    const char *names[SUBCOMMANDS_MAX + 1] = {0};
    limn_buffer list = {0};
    for (size_t i = 0; i < SUBCOMMANDS_MAX && subcommands[i].name; i++) {
        names[i] = subcommands[i].name;
        limn_buffer_printf(&list, NULL, "%s%s", i ? ", " : "", names[i]);
    }
    limn_error error = {0};
    const char *nearest = given ? limn_nearest(given, names) : NULL;
    if (!given)
        limn_fail_usage(&error, "say what to do: %s", list.data);
    else if (nearest)
        limn_fail_usage(&error, "unknown command '%s'; did you mean '%s'?", given, nearest);
    else
        limn_fail_usage(&error, "unknown command '%s'; the commands are %s", given, list.data);
    fprintf(stderr, "%s: %s\n", program, error.message);
    limn_buffer_free(&list);
    return LIMN_EXIT_USAGE;
}

int limn_main_subcommands(int argc, char **argv, const char *summary, const limn_subcommand *subcommands) {
    const char *program = argc > 0 ? limn_base_name(argv[0]) : "limn";
    const char *name = argc > 1 ? argv[1] : NULL;
    if (name && (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)) {
        print_subcommands(program, summary, subcommands);
        return fflush(stdout) == 0 ? LIMN_EXIT_DONE : LIMN_EXIT_FAILED;
    }
    if (name && strcmp(name, "--version") == 0) {
        printf("%s %s\n", program, LIMN_VERSION);
        return fflush(stdout) == 0 ? LIMN_EXIT_DONE : LIMN_EXIT_FAILED;
    }
    const limn_subcommand *found = name ? find_subcommand(subcommands, name) : NULL;
    if (!found) return unknown_subcommand(program, subcommands, name);
    char full_name[128];
    snprintf(full_name, sizeof full_name, "%s %s", program, name);
    limn_set_program_name(full_name);
    return run_and_report(argc - 1, argv + 1, found->run);
}
