/*
 * CRC32C (RFC 3720), for several of the C files: the machine's instruction where there is one, else a table.
 */

#ifndef TWINLOG_CRC32C_H
#define TWINLOG_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

static u32 crc_table[256];
static u32 (*crc_update)(u32 crc, const u8 *data, size_t size); /* both set once, when the module is made */

static u32 crc_by_table(u32 crc, const u8 *data, size_t size) {
    while (size--)
        crc = crc >> 8 ^ crc_table[(crc ^ *data++) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static u32 crc_by_instruction(u32 crc, const u8 *data, size_t size) {
    u64 wide = crc;
    for (u64 word; size >= 8; size -= 8, data += 8) {
        memcpy(&word, data, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (u32)wide;
    while (size--)
        crc = __builtin_ia32_crc32qi(crc, *data++);
    return crc;
}
#endif

static void choose_crc(void) {
    for (u32 byte = 0; byte < 256; byte++) {
        u32 crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
        crc_table[byte] = crc;
    }
    crc_update = crc_by_table;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2"))
        crc_update = crc_by_instruction;
#endif
}

static inline u32 crc32c(const u8 *data, size_t size) { return ~crc_update(0xFFFFFFFFu, data, size); }

#endif
