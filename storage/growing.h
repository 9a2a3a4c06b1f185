/*
 * What exchange.c and packing.c share: bytes that grow, and looks at eight bytes of text at a time.
 */

#ifndef TWINLOG_GROWING_H
#define TWINLOG_GROWING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

#define DEPTH_MAX 100 /* of maps and arrays inside each other, the document counted (values/documents.py) */
#define EACH 0x0101010101010101ull
#define HIGH 0x8080808080808080ull

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

static inline u64 load64(const u8 *at) {
    u64 value;
    memcpy(&value, at, 8);
    return value;
}

/* Whether one of eight bytes is a quote, a backslash or below a blank; bytes from 0x80 on may or may not count, never the others. */
static inline u64 has_special(u64 x) {
    u64 quote = x ^ EACH * '"', slash = x ^ EACH * '\\';
    return ((quote - EACH) & ~quote & HIGH) | ((slash - EACH) & ~slash & HIGH) | ((x - EACH * 0x20) & ~x & HIGH);
}

/* As Python's strict decoder has it: no overlong form, no surrogate, nothing over U+10FFFF. */
static int is_utf8(const u8 *at, const u8 *end) {
    while (at < end) {
        if (end - at >= 8 && !(load64(at) & HIGH)) {
            at += 8;
            continue;
        }
        u8 first = *at;
        if (first < 0x80) {
            at++;
            continue;
        }
        int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
        if (first < 0xC2 || first > 0xF4 || end - at <= more)
            return 0;
        for (int i = 1; i <= more; i++)
            if ((at[i] & 0xC0) != 0x80)
                return 0;
        u8 second = at[1];
        if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second >= 0xA0) || (first == 0xF0 && second < 0x90) ||
            (first == 0xF4 && second >= 0x90))
            return 0;
        at += more + 1;
    }
    return 1;
}

#endif
