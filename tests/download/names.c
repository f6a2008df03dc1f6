#include "tests/download/names.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* RFC 1035: a head of 12 bytes, then the question. */
enum { HEAD = 12, TYPE_A = 1, TYPE_CNAME = 5, NO_SUCH_NAME = 3, SERVER_FAILURE = 2 };

/* Appends an answer whose name is the question's. Returns the new size. */
static size_t append_record(unsigned char *packet, size_t size, int type, const void *data, size_t data_size) {
    const unsigned char record[] = {0xC0, HEAD, 0, (unsigned char)type, 0, 1, 0, 0, 0, 60, 0, (unsigned char)data_size};
    memcpy(packet + size, record, sizeof record);
    memcpy(packet + size + sizeof record, data, data_size);
    packet[7]++;
    return size + sizeof record + data_size;
}

/* Makes the question in `packet` an answer. Returns its size; 0: none is sent. */
static size_t answer(unsigned char *packet, size_t size) {
    size_t end = HEAD;
    while (end < size && packet[end]) end += packet[end] + 1u;
    end += 5;
    if (size < HEAD || end > size) return 0;
    const char *name = (const char *)packet + HEAD + 1;
    const int type = packet[end - 3];
    packet[2] = 0x81, packet[3] = 0x80; /* an answer, recursion desired and available */
    memset(packet + 6, 0, 6);           /* no answers yet, and none of what the question came with */
    if (!strncmp(name, "silent", 6)) return 0;
    if (!strncmp(name, "stub", 4)) return 3;
    if (!strncmp(name, "nx", 2)) packet[3] |= NO_SUCH_NAME;
    if (!strncmp(name, "servfail", 8)) packet[3] |= SERVER_FAILURE;
    if (!strncmp(name, "nx", 2) || !strncmp(name, "servfail", 8)) return end;
    if (!strncmp(name, "garbage", 7)) {
        packet[7] = 200;
        for (size_t i = end; i < end + 40; i++) packet[i] = (unsigned char)(i * 151 + packet[1]);
        return end + 40;
    }
    if (!strncmp(name, "circle", 6)) return append_record(packet, end, TYPE_CNAME, (unsigned char[]){0xC0, HEAD}, 2);
    if (type != TYPE_A) return end;
    if (!strncmp(name, "private", 7)) return append_record(packet, end, TYPE_A, (unsigned char[]){10, 0, 0, 1}, 4);
    if (!strncmp(name, "two", 3)) end = append_record(packet, end, TYPE_A, (unsigned char[]){127, 0, 0, 2}, 4);
    return append_record(packet, end, TYPE_A, (unsigned char[]){127, 0, 0, 1}, 4);
}

static void answer_for_ever(int fd, volatile size_t *questions) {
    unsigned char packet[1024];
    struct sockaddr_in from;
    for (;;) {
        socklen_t from_size = sizeof from;
        const ssize_t size = recvfrom(fd, packet, sizeof packet / 2, 0, (struct sockaddr *)&from, &from_size);
        if (size < 0) continue;
        ++*questions;
        const size_t made = answer(packet, (size_t)size);
        if (made) sendto(fd, packet, made, 0, (struct sockaddr *)&from, from_size);
    }
}

test_names names_start(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), buffer = 1 << 21;
    test_names self = {0};
    self.questions = mmap(NULL, sizeof *self.questions, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (self.questions == MAP_FAILED || fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) ||
        getsockname(fd, (struct sockaddr *)&address, &size))
        abort();
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    self.process = fork();
    if (self.process < 0) abort();
    if (self.process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        answer_for_ever(fd, self.questions);
    }
    close(fd);
    snprintf(self.address, sizeof self.address, "127.0.0.1:%d", ntohs(address.sin_port));
    return self;
}

void names_stop(test_names *self) {
    kill(self->process, SIGKILL);
    waitpid(self->process, NULL, 0);
    munmap((void *)(uintptr_t)self->questions, sizeof *self->questions);
}
