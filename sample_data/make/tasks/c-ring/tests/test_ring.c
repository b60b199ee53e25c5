/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "ring.h"

static int failures;

static void check(int ok, const char *what)
{
    printf("%s - %s\n", ok ? "ok" : "FAILED", what);
    failures += !ok;
}

static void test_simple(void)
{
    ring r;
    char out[8] = {0};
    ring_init(&r, 8);
    check(ring_write(&r, "hello", 5) == 5, "write fits");
    check(ring_read(&r, out, 8) == 5 && memcmp(out, "hello", 5) == 0, "read it back");
    ring_free(&r);
}

static void test_wrap(void)
{
    ring r;
    char out[8] = {0};
    ring_init(&r, 8);
    ring_write(&r, "abcdef", 6);
    ring_read(&r, out, 5);
    check(ring_write(&r, "ghijklm", 7) == 7, "write wraps around");
    check(ring_read(&r, out, 8) == 8, "read wraps around");
    check(memcmp(out, "fghijklm", 8) == 0, "bytes keep their order");
    ring_free(&r);
}

static void test_exact_end(void)
{
    ring r;
    char out[8] = {0};
    ring_init(&r, 4);
    ring_write(&r, "abcd", 4);
    ring_read(&r, out, 4);
    check(r.head == 0, "head returns to the start");
    check(ring_write(&r, "wxyz", 4) == 4 && ring_read(&r, out, 4) == 4, "full again");
    check(memcmp(out, "wxyz", 4) == 0, "full again, right bytes");
    ring_free(&r);
}

static void test_empty_capacity(void)
{
    ring r;
    ring_init(&r, 0);
    check(ring_write(&r, "x", 1) == 0, "nothing fits into no room");
    ring_free(&r);
}

int main(void)
{
    test_simple();
    test_wrap();
    test_exact_end();
    test_empty_capacity();
    printf("%d failed\n", failures);
    return failures != 0;
}
