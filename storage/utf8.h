/*
 * What several of the C files know of text: whether bytes are UTF-8.
 */

#ifndef TWINLOG_UTF8_H
#define TWINLOG_UTF8_H

#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define HIGH 0x8080808080808080ull

static inline u64 load64(const void *at) {
    u64 value;
    memcpy(&value, at, 8);
    return value;
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
