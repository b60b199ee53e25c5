/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>

/* A ring buffer of bytes with a fixed capacity. */
typedef struct {
    unsigned char *data;
    size_t capacity;
    size_t head; /* where the next byte is read */
    size_t used;
} ring;

bool ring_init(ring *r, size_t capacity);
void ring_free(ring *r);
size_t ring_write(ring *r, const void *bytes, size_t count);
size_t ring_read(ring *r, void *bytes, size_t count);
size_t ring_space(const ring *r);

#endif
