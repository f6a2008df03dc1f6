/* Which parts of a model are trained. */
#include "train/loop.h"

#include <string.h>

/* "decoder.up.0" stands for itself and for all whose names go on with a dot. */
static bool stands_for(const char *part, size_t length, const char *name) {
    return strncmp(name, part, length) == 0 && (name[length] == '\0' || name[length] == '.');
}

/* The first parts of all names, each once: "encoder, quant_conv, …". */
static void list_parts(const parameters *set, char *out, size_t room) {
    size_t used = 0;
    for (size_t i = 0; i < set->count; i++) {
        const char *name = set->list[i].name;
        const size_t length = strcspn(name, ".");
        bool known = false;
        for (size_t j = 0; j < i && !known; j++) known = stands_for(name, length, set->list[j].name);
        if (!known && used + length + 3 < room)
            used += (size_t)snprintf(out + used, room - used, "%s%.*s", used ? ", " : "", (int)length, name);
    }
}

int train_select(const parameters *set, const char *names, bool *selected, limn_error *error) {
    memset(selected, 0, set->count * sizeof *selected);
    for (const char *at = names; *at;) {
        const size_t length = strcspn(at, ",");
        bool found = false;
        for (size_t i = 0; i < set->count && length; i++) {
            if (!stands_for(at, length, set->list[i].name)) continue;
            selected[i] = found = true;
        }
        if (!found) {
            char parts[512] = "";
            list_parts(set, parts, sizeof parts);
            return limn_fail_usage(error, "--train %s: no weight is called '%.*s', nor begins with it and a dot; there are %s",
                                   names, (int)length, at, parts);
        }
        at += length + (at[length] == ',');
    }
    return *names ? 0 : limn_fail_usage(error, "--train names nothing");
}
