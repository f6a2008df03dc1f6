/* What the tests of caption lists share. */
#ifndef LIMN_TESTS_DOWNLOAD_ROWS_H
#define LIMN_TESTS_DOWNLOAD_ROWS_H

#include "download/download.h"

/* Every row of a list in memory as "line:caption|url" or "line!problem", with "|name=value" for further columns, one a line; an
 * error as "error: message". Passing over the rows must find as many, and end alike. Caller: free. */
char *list_rows(const char *text, size_t size, const char *name, const caption_list_options *options);

#endif
