/*
 * What exchange.c and packing.c share: bytes that grow, and looks at eight bytes of text at a time.
 */

#ifndef TWINLOG_GROWING_H
#define TWINLOG_GROWING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "utf8.h"

#define DEPTH_MAX 100 /* of maps and arrays inside each other, the document counted (values/documents.py) */
#define EACH 0x0101010101010101ull

typedef struct {
    u8 *data;
    size_t size, room;
    int is_short; /* there was no memory: whoever has the interpreter's lock makes the error */
} Out;

static int grow(Out *o, size_t more) {
    size_t room = o->room * 2 + more + 4096;
    u8 *data = PyMem_RawRealloc(o->data, room);
    if (!data) {
        o->is_short = 1;
        return 0;
    }
    o->data = data;
    o->room = room;
    return 1;
}

static inline int need(Out *o, size_t more) { return o->room - o->size >= more || grow(o, more); }

static inline int put(Out *o, const void *data, size_t size) {
    if (!need(o, size))
        return 0;
    memcpy(o->data + o->size, data, size);
    o->size += size;
    return 1;
}

static inline int put_byte(Out *o, u8 byte) { return put(o, &byte, 1); }

#define PUT(o, text) put(o, text, sizeof(text) - 1)

/* Whether one of eight bytes is a quote, a backslash or below a blank; bytes from 0x80 on may or may not count, never the others. */
static inline u64 has_special(u64 x) {
    u64 quote = x ^ EACH * '"', slash = x ^ EACH * '\\';
    return ((quote - EACH) & ~quote & HIGH) | ((slash - EACH) & ~slash & HIGH) | ((x - EACH * 0x20) & ~x & HIGH);
}

#endif
