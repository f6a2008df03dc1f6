/* The directory of a zip file (APPNOTE.TXT, with zip64); formats/ only. */
#ifndef LIMN_FORMATS_ZIP_H
#define LIMN_FORMATS_ZIP_H

#include "core/core.h"

/* What its records begin with, and their bytes without names and extra fields. */
enum {
    LOCAL_SIGNATURE = 0x04034b50,
    CENTRAL_SIGNATURE = 0x02014b50,
    END_SIGNATURE = 0x06054b50,
    END64_SIGNATURE = 0x06064b50,
    LOCATOR_SIGNATURE = 0x07064b50
};
enum { LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, END64_BYTES = 56, LOCATOR_BYTES = 20 };

typedef struct {
    const char *name; /* in the mapping, without a NUL */
    size_t name_length;
    size_t header;     /* where its local header begins, from the file's begin */
    size_t data, size; /* where its bytes begin, and how many they are in the file */
    bool compressed;   /* else they are stored as they are */
} zip_entry;

typedef struct {
    zip_entry *entries; /* sorted by name */
    size_t count;
} zip_directory;

/* Reads the directory and checks it: every entry lies before the directory, begins with its own local header and shares no
 * byte with another; no name stands twice. Fails with one sentence; free with zip_free in either case. */
int zip_read(zip_directory *out, const limn_mapping *mapping, const char *path, limn_error *error);
const zip_entry *zip_find(const zip_directory *directory, const char *name, size_t name_length); /* NULL when absent */
void zip_free(zip_directory *directory);

#endif
