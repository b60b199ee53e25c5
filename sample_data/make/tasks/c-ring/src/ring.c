/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include <stdlib.h>
#include <string.h>

bool ring_init(ring *r, size_t capacity)
{
    r->data = malloc(capacity ? capacity : 1);
    r->capacity = capacity;
    r->head = 0;
    r->used = 0;
    return r->data != NULL;
}

void ring_free(ring *r)
{
    free(r->data);
    r->data = NULL;
    r->capacity = r->head = r->used = 0;
}

size_t ring_space(const ring *r)
{
    return r->capacity - r->used;
}

/* Write as many bytes as fit; returns how many were written. */
size_t ring_write(ring *r, const void *bytes, size_t count)
{
    const unsigned char *from = bytes;
    if (count > ring_space(r))
        count = ring_space(r);
    for (size_t i = 0; i < count; i++)
        r->data[(r->head + r->used + i) % r->capacity] = from[i];
    r->used += count;
    return count;
}

/* Read up to count bytes; returns how many were read. */
size_t ring_read(ring *r, void *bytes, size_t count)
{
    if (count > r->used)
        count = r->used;
    memcpy(bytes, r->data + r->head, count);
    r->head = r->head + count;
    if (r->head > r->capacity)
        r->head -= r->capacity;
    r->used -= count;
    return count;
}
