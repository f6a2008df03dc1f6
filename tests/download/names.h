/* A name server on 127.0.0.1 that misbehaves, for the tests of limn-download. The first letters of a name say what it answers:
 *
 *   nx        no such name                  servfail   a failure of the server
 *   silent    nothing                       garbage    bytes that are no answer, under the question's number
 *   stub      three bytes                   circle     the name is another name for itself
 *   private   10.0.0.1                      two        127.0.0.2, where nobody listens, and 127.0.0.1
 *   others    127.0.0.1 */
#ifndef LIMN_TESTS_DOWNLOAD_NAMES_H
#define LIMN_TESTS_DOWNLOAD_NAMES_H

#include <stddef.h>
#include <sys/types.h>

typedef struct {
    pid_t process;
    char address[32];           /* as --resolver takes it */
    volatile size_t *questions; /* so far; shared with its process */
} test_names;

test_names names_start(void); /* in a process of its own, which ends with the test */
void names_stop(test_names *self);

#endif
