/* The hosts a loop knows: a hash table that forgets those unused for longest. */
#include "download/fetch.h"

#include <stdlib.h>
#include <string.h>

void host_fail(host *self, const char *reason, const char *detail) {
    snprintf(self->reason, sizeof self->reason, "%s", reason);
    snprintf(self->detail, sizeof self->detail, "%s", detail);
}

int host_table_create(host_table *self, size_t most, limn_error *error) {
    memset(self, 0, sizeof *self);
    self->most = most;
    self->bucket_count = 1;
    while (self->bucket_count < most) self->bucket_count *= 2;
    self->buckets = limn_allocate(self->bucket_count, sizeof *self->buckets, error);
    return self->buckets ? 0 : -1;
}

static void unlink_by_use(host_table *self, host *item) {
    *(item->older ? &item->older->newer : &self->oldest) = item->newer;
    *(item->newer ? &item->newer->older : &self->newest) = item->older;
}

static void link_newest(host_table *self, host *item) {
    item->older = self->newest;
    item->newer = NULL;
    *(self->newest ? &self->newest->newer : &self->oldest) = item;
    self->newest = item;
}

static bool has_nothing_to_do(const host *item) {
    return !item->rows.count && !item->running && !item->listed && item->state != HOST_LOOKED_UP;
}

static void forget(host_table *self, host *item) {
    host **link = &self->buckets[item->hash & (self->bucket_count - 1)];
    while (*link != item) link = &(*link)->next;
    *link = item->next;
    unlink_by_use(self, item);
    self->count--;
    free(item);
}

/* Hosts that are busy stay; there are only as many of these as rows. A few steps each time find the others. */
static void forget_some(host_table *self) {
    host *item = self->oldest;
    for (int steps = 0; steps < 4 && item && self->count >= self->most; steps++) {
        host *newer = item->newer;
        if (has_nothing_to_do(item)) {
            forget(self, item);
        } else {
            unlink_by_use(self, item);
            link_newest(self, item);
        }
        item = newer;
    }
}

host *host_table_get(host_table *self, const char *name, uint64_t hash) {
    host **bucket = &self->buckets[hash & (self->bucket_count - 1)];
    for (host *item = *bucket; item; item = item->next) {
        if (item->hash != hash || strcmp(item->name, name)) continue;
        unlink_by_use(self, item);
        link_newest(self, item);
        return item;
    }
    if (self->count >= self->most) forget_some(self);
    const size_t size = strlen(name) + 1;
    host *item = calloc(1, sizeof *item + size);
    if (!item) return NULL;
    memcpy(item->name, name, size);
    item->hash = hash;
    item->next = *bucket;
    *bucket = item;
    link_newest(self, item);
    self->count++;
    return item;
}

void host_table_free(host_table *self) {
    for (host *item = self->oldest, *newer; item; item = newer) {
        newer = item->newer;
        for (download_row *row; (row = row_queue_pop(&item->rows));) download_row_free(row);
        free(item);
    }
    free(self->buckets);
    memset(self, 0, sizeof *self);
}

void host_list_push(host_list *list, host *item) {
    item->behind = NULL;
    if (list->last)
        list->last->behind = item;
    else
        list->first = item;
    list->last = item;
}

host *host_list_pop(host_list *list) {
    host *item = list->first;
    if (!item) return NULL;
    list->first = item->behind;
    if (!list->first) list->last = NULL;
    return item;
}
