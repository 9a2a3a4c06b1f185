/*
 * Lines of Extended JSON, or elements of a JSON array, to documents in bulk: storage._packing. What it means stands in storage/exchange/extjson.py and
 * jsonl.py, which also read whatever is not taken here: each function goes through lines in order, stops before the first that is not of a common
 * shape and says where. It never makes an error about a line. The pure twins, which take nothing, stand in storage/exchange/encoded.py.
 *
 *     pack_lines     lines       ──> MessagePack with `_id` first, as documents.encode() writes it
 *     pack_elements  elements of a JSON array, each with the comma behind it ──> the same
 *
 * Not taken: what is not JSON; text that is no UTF-8 and lone surrogates; numbers beyond their range; NUL in a key; a key that stands twice; a key
 * with "$" but in {"$date"}, {"$oid"}, {"$binary"}, {"$timestamp"}, {"$numberInt"}, {"$numberLong"} and {"$numberDouble"} as they are usually written; nesting
 * beyond DEPTH_MAX; documents beyond DOCUMENT_BYTES_MAX.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>

#include "growing.h"

#define DOCUMENT_BYTES_MAX (16 * 1024 * 1024)
#define KEYS_MAX 4096 /* of one map: each is compared with all before it */
#define NUMBER_BYTES_MAX 64

/* Days from 1970-01-01 to a day of the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of(int64_t year, int month, int day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* ---- Text to MessagePack. 0 is "not taken" or an error that is set. */

typedef struct {
    size_t at; /* in the output */
    u32 size, hash;
} Key;

typedef struct {
    Out out; /* the pairs of the document, without its head */
    const u8 *at, *end;
    Key *keys; /* of all maps that are open, the innermost one's last */
    size_t keys_size, keys_room;
    size_t id_at, id_end; /* the pair `_id` of the document; equal when there is none */
} Parser;

typedef struct {
    const u8 *at;
    size_t size;
} Span;

static inline void skip_blank(Parser *p) {
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t'))
        p->at++;
}

static inline int taken(Parser *p, char mark) {
    skip_blank(p);
    if (p->at == p->end || *p->at != (u8)mark)
        return 0;
    p->at++;
    return 1;
}

static u8 *put_big(u8 *to, u64 value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--)
        *to++ = (u8)(value >> 8 * i);
    return to;
}

/* A head of one byte and a size of so many bytes, or none. */
static int put_head(Out *o, u8 head, u64 value, int bytes) {
    if (!need(o, 9))
        return 0;
    o->data[o->size] = head;
    o->size = (size_t)(put_big(o->data + o->size + 1, value, bytes) - o->data);
    return 1;
}

static int put_int(Out *o, int64_t value) {
    u64 bits = (u64)value, wide = value < 0 ? ~bits : bits;
    if (wide < (value < 0 ? 32 : 128))
        return put_byte(o, (u8)bits);
    int size = 0;
    while (size < 3 && wide >> ((8 << size) - (value < 0)))
        size++;
    return put_head(o, (u8)((value < 0 ? 0xD0 : 0xCC) + size), bits, 1 << size);
}

static int put_text_head(Out *o, size_t size) {
    return size < 32 ? put_byte(o, (u8)(0xA0 | size)) : size < 256 ? put_head(o, 0xD9, size, 1) : size < 65536 ? put_head(o, 0xDA, size, 2) : put_head(o, 0xDB, size, 4);
}

/* small: the head of up to 15, which holds their number; of more follow `large` and two bytes, or the next one and four. */
static int container_head(u8 *to, u64 count, u8 small, u8 large) {
    if (count < 16)
        return (int)(put_big(to, small | count, 1) - to);
    *to = count < 65536 ? large : large + 1;
    return (int)(put_big(to + 1, count, count < 65536 ? 2 : 4) - to);
}

static int put_bin(Out *o, u8 head, const void *data, size_t size) {
    return put_head(o, head + (size < 256 ? 0 : size < 65536 ? 1 : 2), size, size < 256 ? 1 : size < 65536 ? 2 : 4) && (!data || put(o, data, size));
}

/* What is between two quotes when no escape and nothing beyond ASCII is in it. */
static int take_plain(Parser *p, Span *span) {
    if (!taken(p, '"'))
        return 0;
    for (span->at = p->at; p->at < p->end; p->at++) {
        u8 c = *p->at;
        if (c == '"') {
            span->size = (size_t)(p->at++ - span->at);
            return 1;
        }
        if (c < 0x20 || c == '\\' || c >= 0x80)
            return 0;
    }
    return 0;
}

static int hex_of(const u8 *at, int size) {
    int value = 0;
    for (int i = 0; i < size; i++) {
        u8 c = at[i], low = c | 0x20;
        int digit = c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* \uXXXX, the reader past the u; both halves of a pair. */
static int take_code_point(Parser *p, u32 *point) {
    int first = p->end - p->at >= 4 ? hex_of(p->at, 4) : -1;
    if (first < 0 || (first & 0xFC00) == 0xDC00)
        return 0;
    p->at += 4;
    *point = (u32)first;
    if ((first & 0xFC00) != 0xD800)
        return 1;
    int second = p->end - p->at >= 6 && p->at[0] == '\\' && p->at[1] == 'u' ? hex_of(p->at + 2, 4) : -1;
    if ((second & 0xFC00) != 0xDC00)
        return 0;
    p->at += 6;
    *point = 0x10000 + (((u32)first & 0x3FF) << 10 | ((u32)second & 0x3FF));
    return 1;
}

static u8 *put_point(u8 *to, u32 c) {
    if (c < 0x80) {
        *to++ = (u8)c;
        return to;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const u8 head[] = {0, 0xC0, 0xE0, 0xF0};
    *to++ = (u8)(head[more] | c >> 6 * more);
    while (more--)
        *to++ = (u8)(0x80 | (c >> 6 * more & 0x3F));
    return to;
}

/* The rest of a text from its first escape on; the reader is past the quote then. The result is never longer than what is read. */
static int unescape(Parser *p, u8 **to) {
    while (p->at < p->end) {
        u8 c = *p->at++;
        u32 point;
        if (c == '"')
            return 1;
        if (c < 0x20)
            return 0;
        if (c != '\\') {
            *(*to)++ = c;
            continue;
        }
        if (p->at == p->end)
            return 0;
        switch (*p->at++) {
        case '"': c = '"'; break;
        case '\\': break;
        case '/': c = '/'; break;
        case 'b': c = '\b'; break;
        case 'f': c = '\f'; break;
        case 'n': c = '\n'; break;
        case 'r': c = '\r'; break;
        case 't': c = '\t'; break;
        case 'u':
            if (!take_code_point(p, &point))
                return 0;
            *to = put_point(*to, point);
            continue;
        default:
            return 0;
        }
        *(*to)++ = c;
    }
    return 0;
}

/* A text, the reader past its first quote. content: where its bytes stand in the output. */
static int take_text(Parser *p, Key *content) {
    const u8 *start = p->at;
    u64 high = 0;
    for (;;) {
        if (p->end - p->at >= 8 && !has_special(load64(p->at))) {
            high |= load64(p->at) & HIGH;
            p->at += 8;
            continue;
        }
        if (p->at == p->end || *p->at < 0x20)
            return 0;
        if (*p->at == '"' || *p->at == '\\')
            break;
        high |= *p->at++ & 0x80;
    }
    size_t size = (size_t)(p->at - start);
    if (*p->at == '"') {
        p->at++;
        if ((high && !is_utf8(start, start + size)) || size > UINT32_MAX || !put_text_head(&p->out, size))
            return 0;
        content->at = p->out.size;
        content->size = (u32)size;
        return put(&p->out, start, size);
    }
    const u8 *quote = p->at; /* where it ends: room for all of the line would be too much */
    while (quote < p->end && *quote != '"')
        quote += *quote == '\\' ? 2 : 1;
    if (quote >= p->end || !need(&p->out, (size_t)(quote - start) + 16)) /* and for its head, so that nothing moves meanwhile */
        return 0;
    u8 *text = p->out.data + p->out.size + 5, *to = text + size;
    memcpy(text, start, size);
    if (!unescape(p, &to) || !is_utf8(text, to))
        return 0;
    size = (size_t)(to - text);
    if (size > UINT32_MAX || !put_text_head(&p->out, size))
        return 0;
    memmove(p->out.data + p->out.size, text, size);
    content->at = p->out.size;
    content->size = (u32)size;
    p->out.size += size;
    return 1;
}

/* A number as JSON has it. Past the reader there is always one more byte, if only the end of the text. */
static int take_number(Parser *p, Span *span, int *is_double) {
    const u8 *at = span->at = p->at, *end = p->end;
    *is_double = 0;
    if (at < end && *at == '-')
        at++;
    if (at == end || *at < '0' || *at > '9')
        return 0;
    if (*at++ != '0')
        while (at < end && *at >= '0' && *at <= '9')
            at++;
    if (end - at >= 2 && *at == '.' && at[1] >= '0' && at[1] <= '9') {
        *is_double = 1;
        for (at++; at < end && *at >= '0' && *at <= '9';)
            at++;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        const u8 *digit = at + 1;
        if (digit < end && (*digit == '+' || *digit == '-'))
            digit++;
        if (digit < end && *digit >= '0' && *digit <= '9') {
            *is_double = 1;
            for (at = digit; at < end && *at >= '0' && *at <= '9';)
                at++;
        }
    }
    span->size = (size_t)(at - span->at);
    p->at = at;
    return span->size < NUMBER_BYTES_MAX;
}

static int int_of(const Span *span, int64_t *value) {
    size_t i = span->size && span->at[0] == '-', first = i;
    u64 found = 0;
    if (span->size - first < 1 || span->size - first > 19)
        return 0;
    for (; i < span->size; i++) {
        if (span->at[i] < '0' || span->at[i] > '9')
            return 0;
        found = found * 10 + (u64)(span->at[i] - '0');
    }
    if (found > (u64)INT64_MAX + first)
        return 0;
    *value = (int64_t)(first ? 0 - found : found);
    return 1;
}

/* Exact at once where the digits and the power of ten are doubles themselves (W. Clinger 1990), else by Python's own. */
static int put_double(Out *o, const Span *span) {
    static const double power[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    u64 whole = 0, bits;
    int places = 0, counted = 0, after = 0;
    double value;
    for (size_t i = 0; i < span->size && counted < 17; i++) {
        u8 c = span->at[i];
        if (c == '.')
            after = 1;
        else if (c >= '0' && c <= '9') {
            whole = whole * 10 + (u64)(c - '0');
            counted++;
            places += after;
        } else if (c != '-')
            counted = 17;
    }
    if (counted < 16)
        value = (span->at[0] == '-' ? -(double)whole : (double)whole) / power[places];
    else {
        char text[NUMBER_BYTES_MAX];
        memcpy(text, span->at, span->size);
        text[span->size] = 0;
        value = PyOS_string_to_double(text, NULL, NULL);
        if ((value == -1.0 && PyErr_Occurred()) || !isfinite(value))
            return 0;
    }
    memcpy(&bits, &value, 8);
    return put_head(o, 0xCB, bits, 8);
}

static int number_in(Parser *p) {
    Span span;
    int is_double;
    int64_t value;
    if (!take_number(p, &span, &is_double))
        return 0;
    return is_double ? put_double(&p->out, &span) : int_of(&span, &value) && put_int(&p->out, value);
}

static int is_named(const Span *span, const char *name) { return span->size == strlen(name) && memcmp(span->at, name, span->size) == 0; }

/* A key that is this one, and its colon. */
static int expect(Parser *p, const char *name) {
    Span key;
    return take_plain(p, &key) && is_named(&key, name) && taken(p, ':');
}

static int ms_of(const Span *span, int64_t *ms) {
    static const char form[] = "0000-00-00T00:00:00";
    static const u8 days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const u8 *at = span->at;
    int part[7], fraction = 0;
    if (span->size < 20 || span->size > 30 || span->size == 21 || at[span->size - 1] != 'Z')
        return 0;
    for (int i = 0; i < 19; i++)
        if (form[i] == '0' ? at[i] < '0' || at[i] > '9' : at[i] != form[i])
            return 0;
    static const u8 place[] = {0, 2, 5, 8, 11, 14, 17};
    for (int i = 0; i < 7; i++)
        part[i] = (at[place[i]] - '0') * 10 + at[place[i] + 1] - '0';
    int year = part[0] * 100 + part[1], month = part[2], is_leap = year % 4 == 0 && (year % 100 || year % 400 == 0);
    if (!year || month < 1 || month > 12 || part[3] < 1 || part[3] > days[month - 1] + (month == 2 && is_leap) || part[4] > 23 || part[5] > 59 || part[6] > 59)
        return 0;
    if (span->size > 20 && at[19] != '.')
        return 0;
    for (size_t i = 20, weight = 100; span->size > 20 && i < span->size - 1; i++, weight /= 10) {
        if (at[i] < '0' || at[i] > '9')
            return 0;
        fraction += (int)weight * (at[i] - '0');
    }
    *ms = ((days_of(year, month, part[3]) * 24 + part[4]) * 60 + part[5]) * 60000 + part[6] * 1000 + fraction;
    return 1;
}

static int date_in(Parser *p) {
    Span span;
    int64_t ms;
    int is_double;
    u8 data[8];
    skip_blank(p);
    if (p->at < p->end && *p->at == '"') {
        if (!take_plain(p, &span) || !ms_of(&span, &ms))
            return 0;
    } else if (taken(p, '{')) {
        if (!expect(p, "$numberLong") || !take_plain(p, &span) || !int_of(&span, &ms) || !taken(p, '}'))
            return 0;
    } else if (!take_number(p, &span, &is_double) || is_double || !int_of(&span, &ms))
        return 0;
    put_big(data, (u64)ms, 8);
    return PUT(&p->out, "\xD7\x01") && put(&p->out, data, 8);
}

static int object_id_in(Parser *p) {
    Span span;
    u8 id[12];
    if (!take_plain(p, &span) || span.size != 24)
        return 0;
    for (int i = 0; i < 12; i++) {
        int value = hex_of(span.at + 2 * i, 2);
        if (value < 0)
            return 0;
        id[i] = (u8)value;
    }
    return PUT(&p->out, "\xC7\x0C\x02") && put(&p->out, id, 12);
}

static int letter_of(u8 c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 : c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Base64 of this size to bytes that there is room for; what is no canonical one is not taken. */
static int decoded(const Span *span, u8 *to, size_t *size) {
    const u8 *at = span->at, *end = at + span->size;
    u8 *start = to;
    if (span->size % 4)
        return 0;
    for (; at < end; at += 4) {
        int padding = end - at > 4 ? 0 : (at[3] == '=') + (at[3] == '=' && at[2] == '=');
        int32_t word = 0;
        for (int i = 0; i < 4; i++) {
            int value = i < 4 - padding ? letter_of(at[i]) : 0;
            if (value < 0)
                return 0;
            word = word << 6 | value;
        }
        if (word & ((1 << 8 * padding) - 1))
            return 0;
        for (int i = 0; i < 3 - padding; i++)
            *to++ = (u8)(word >> (16 - 8 * i));
    }
    *size = (size_t)(to - start);
    return 1;
}

static int binary_in(Parser *p) {
    Span text, kind;
    if (!taken(p, '{') || !expect(p, "base64") || !take_plain(p, &text) || !taken(p, ',') || !expect(p, "subType") || !take_plain(p, &kind) || !taken(p, '}'))
        return 0;
    int subtype = kind.size == 1 || kind.size == 2 ? hex_of(kind.at, (int)kind.size) : -1;
    if (subtype < 0 || text.size > DOCUMENT_BYTES_MAX * 2)
        return 0;
    size_t most = text.size / 4 * 3, size;
    Out *o = &p->out;
    if (!need(o, most + 16)) /* decoded behind the room for its head, then moved there */
        return 0;
    u8 *data = o->data + o->size + 10;
    if (!decoded(&text, data, &size))
        return 0;
    if (!subtype && !put_bin(o, 0xC4, NULL, size))
        return 0;
    if (subtype == 4 && size == 16) {
        if (!PUT(o, "\xD8\x03"))
            return 0;
    } else if (subtype) {
        size_t whole = size + 1;
        int is_fixed = whole == 1 || whole == 2 || whole == 4 || whole == 8 || whole == 16;
        u8 fixed = (u8)(0xD4 + (whole == 2) + 2 * (whole == 4) + 3 * (whole == 8) + 4 * (whole == 16));
        if (!(is_fixed ? put_byte(o, fixed) : put_bin(o, 0xC7, NULL, whole)) || !put_byte(o, 9) || !put_byte(o, (u8)subtype))
            return 0;
    }
    memmove(o->data + o->size, data, size);
    o->size += size;
    return 1;
}

static int timestamp_in(Parser *p) {
    Span span;
    int64_t part[2];
    int is_double;
    u8 data[8];
    static const char *const name[] = {"t", "i"};
    for (int i = 0; i < 2; i++) {
        if (!taken(p, i ? ',' : '{') || !expect(p, name[i]))
            return 0;
        skip_blank(p);
        if (!take_number(p, &span, &is_double) || is_double || !int_of(&span, &part[i]) || part[i] < 0 || part[i] > UINT32_MAX)
            return 0;
    }
    put_big(put_big(data, (u64)part[0], 4), (u64)part[1], 4);
    return taken(p, '}') && PUT(&p->out, "\xD7\x05") && put(&p->out, data, 8);
}

/* A map whose first key begins with "$", up to its closing bracket; the reader stands before that key. */
static int shape_in(Parser *p) {
    Span name, text;
    int64_t value;
    int is_double, done = 0;
    if (!take_plain(p, &name) || !taken(p, ':'))
        return 0;
    if (is_named(&name, "$date"))
        done = date_in(p);
    else if (is_named(&name, "$oid"))
        done = object_id_in(p);
    else if (is_named(&name, "$binary"))
        done = binary_in(p);
    else if (is_named(&name, "$timestamp"))
        done = timestamp_in(p);
    else if (is_named(&name, "$numberInt") || is_named(&name, "$numberLong"))
        done = take_plain(p, &text) && int_of(&text, &value) && put_int(&p->out, value);
    else if (is_named(&name, "$numberDouble") && take_plain(p, &text)) {
        Parser inner = {.at = text.at, .end = text.at + text.size};
        done = take_number(&inner, &text, &is_double) && inner.at == inner.end && put_double(&p->out, &text);
    }
    return done && taken(p, '}');
}

static int value_in(Parser *p, int depth);

/* Notes a key of the map whose keys begin at first; 0 when it may not stand there. */
static int note_key(Parser *p, size_t first, Key key) {
    const u8 *text = p->out.data + key.at;
    u32 hash = key.size;
    for (u32 i = 0; i < key.size; i++) {
        if (!text[i])
            return 0;
        hash = hash * 31 + text[i];
    }
    if (p->keys_size - first >= KEYS_MAX)
        return 0;
    key.hash = hash;
    for (size_t i = first; i < p->keys_size; i++)
        if (p->keys[i].hash == hash && p->keys[i].size == key.size && memcmp(p->out.data + p->keys[i].at, text, key.size) == 0)
            return 0;
    if (p->keys_size == p->keys_room) {
        size_t room = p->keys_room * 2 + 64;
        Key *keys = PyMem_Realloc(p->keys, room * sizeof(Key));
        if (!keys) {
            PyErr_NoMemory();
            return 0;
        }
        p->keys = keys;
        p->keys_room = room;
    }
    p->keys[p->keys_size++] = key;
    return 1;
}

/* The pairs of a map up to its closing bracket, the reader past the opening one, or with it past a first pair that is not wanted. depth: of
   this map. tabooed: a key that the document may not have. */
static int pairs_in(Parser *p, int depth, const Py_buffer *tabooed, u64 *count) {
    size_t first = p->keys_size;
    *count = 0;
    if (!tabooed && taken(p, '}'))
        return 1;
    do {
        Key key;
        size_t start = p->out.size;
        if (!taken(p, '"') || (p->at < p->end && *p->at == '$') || !take_text(p, &key) || !note_key(p, first, key) || !taken(p, ':'))
            return 0;
        const u8 *text = p->out.data + key.at;
        if (key.size && text[0] == '$')
            return 0;
        if (tabooed && key.size == (u64)tabooed->len && memcmp(text, tabooed->buf, key.size) == 0)
            return 0;
        int is_id = first == 0 && key.size == 3 && memcmp(text, "_id", 3) == 0;
        if (!value_in(p, depth))
            return 0;
        if (is_id) {
            p->id_at = start;
            p->id_end = p->out.size;
        }
        ++*count;
    } while (taken(p, ','));
    p->keys_size = first;
    return taken(p, '}');
}

/* A map or an array inside the document, the reader past its opening bracket. */
static int items_in(Parser *p, int depth, int is_map) {
    size_t start = p->out.size;
    u64 count = 0;
    u8 head[5];
    if (depth > DEPTH_MAX)
        return 0;
    skip_blank(p);
    if (is_map && p->end - p->at >= 2 && p->at[0] == '"' && p->at[1] == '$')
        return shape_in(p);
    if (!put_byte(&p->out, 0))
        return 0;
    if (is_map) {
        if (!pairs_in(p, depth, NULL, &count))
            return 0;
    } else if (!taken(p, ']')) {
        do
            if (!value_in(p, depth))
                return 0;
        while (++count && taken(p, ','));
        if (!taken(p, ']'))
            return 0;
    }
    size_t size = (size_t)container_head(head, count, is_map ? 0x80 : 0x90, is_map ? 0xDE : 0xDC);
    if (!need(&p->out, size))
        return 0;
    if (size > 1)
        memmove(p->out.data + start + size, p->out.data + start + 1, p->out.size - start - 1);
    memcpy(p->out.data + start, head, size);
    p->out.size += size - 1;
    return 1;
}

static int is_word(Parser *p, const char *word, u8 byte) {
    size_t size = strlen(word);
    if ((size_t)(p->end - p->at) < size || memcmp(p->at, word, size) != 0)
        return 0;
    p->at += size;
    return put_byte(&p->out, byte);
}

/* depth: of the map or array around the value. */
static int value_in(Parser *p, int depth) {
    Key content;
    skip_blank(p);
    if (p->at == p->end)
        return 0;
    switch (*p->at) {
    case '"':
        p->at++;
        return take_text(p, &content);
    case '{': case '[':
        return items_in(p, depth + 1, *p->at++ == '{');
    case 't':
        return is_word(p, "true", 0xC3);
    case 'f':
        return is_word(p, "false", 0xC2);
    case 'n':
        return is_word(p, "null", 0xC0);
    }
    return number_in(p);
}

typedef struct {
    Parser parser;
    Py_buffer data, head, tail, tabooed;
    PyObject *new_id, *documents, *lines;
    Py_ssize_t at, limit, rows; /* limit: bytes of one line or element */
    long long line;
    int keeps_ids, is_cut; /* is_cut: the document's opening bracket is the first byte of `head` */
} Packing;

/* The pairs that were read as a document with `_id` first: its own, or a new one. */
static PyObject *document_of(Packing *k, u64 count) {
    Parser *p = &k->parser;
    size_t id_size = p->id_end - p->id_at;
    int is_new = !k->keeps_ids || !id_size;
    PyObject *made = is_new ? PyObject_CallNoArgs(k->new_id) : NULL;
    u8 head[24];
    if (is_new && (!made || !PyBytes_Check(made) || PyBytes_GET_SIZE(made) != 12)) {
        if (made)
            PyErr_SetString(PyExc_TypeError, "a new id is 12 bytes");
        Py_XDECREF(made);
        return NULL;
    }
    size_t head_size = (size_t)container_head(head, count + (is_new && !id_size), 0x80, 0xDE);
    if (is_new) {
        memcpy(head + head_size, "\xA3_id\xC7\x0C\x02", 7);
        memcpy(head + head_size + 7, PyBytes_AS_STRING(made), 12);
        head_size += 19;
        Py_DECREF(made);
    }
    size_t size = head_size + p->out.size - (is_new ? id_size : 0);
    PyObject *document = size <= DOCUMENT_BYTES_MAX ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size) : NULL;
    if (!document)
        return NULL;
    Out to = {.data = (u8 *)PyBytes_AS_STRING(document), .room = size};
    if (put(&to, head, head_size) && p->out.size) {
        const u8 *from = p->out.data;
        if (!is_new)
            put(&to, from + p->id_at, id_size);
        put(&to, from, p->id_at);
        put(&to, from + p->id_end, p->out.size - p->id_end);
    }
    return document;
}

/* One document, the reader at its first byte or past `head`; NULL when it is not taken or an error is set. depth: its own. */
static PyObject *pack_one(Packing *k, int depth) {
    Parser *p = &k->parser;
    u64 count;
    p->out.size = p->keys_size = p->id_at = p->id_end = 0;
    if (!k->is_cut && !taken(p, '{'))
        return NULL;
    return pairs_in(p, depth, k->is_cut ? &k->tabooed : NULL, &count) ? document_of(k, count) : NULL;
}

/* Appends both, and takes the reference to the document. */
static int keep(Packing *k, PyObject *document, long long number) {
    PyObject *line = PyLong_FromLongLong(number);
    int done = line && PyList_Append(k->documents, document) == 0 && PyList_Append(k->lines, line) == 0;
    Py_XDECREF(line);
    Py_DECREF(document);
    return done;
}

static inline int is_blank(u8 c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* The line that begins at `at`, whole; 0 when it is not taken. */
static int pack_line(Packing *k) {
    const u8 *data = k->data.buf, *start = data + k->at, *end = memchr(start, '\n', (size_t)(k->data.len - k->at));
    if (!end || end - start > k->limit)
        return 0;
    Py_ssize_t next = end + 1 - data;
    while (start < end && is_blank(*start))
        start++;
    while (start < end && is_blank(end[-1]))
        end--;
    if (start < end) {
        if (end - start < k->head.len + k->tail.len || memcmp(start, k->head.buf, (size_t)k->head.len) != 0)
            return 0;
        if (memcmp(end - k->tail.len, k->tail.buf, (size_t)k->tail.len) != 0)
            return 0;
        Parser *p = &k->parser;
        p->at = start + k->head.len;
        p->end = end - k->tail.len;
        PyObject *document = pack_one(k, k->tail.len ? 2 : 1);
        if (!document)
            return 0;
        skip_blank(p);
        if (p->at != p->end) {
            Py_DECREF(document);
            return 0;
        }
        if (!keep(k, document, k->line))
            return 0;
    }
    k->at = next;
    k->line++;
    return 1;
}

static long long line_ends(const u8 *at, const u8 *end) {
    long long count = 0;
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        count++;
        at++;
    }
    return count;
}

/* The element that begins at `at`, with the comma behind it; 0 when it is not taken, and of the last one, which has none. */
static int pack_element(Packing *k) {
    Parser *p = &k->parser;
    const u8 *from = (const u8 *)k->data.buf + k->at;
    p->at = from;
    p->end = (const u8 *)k->data.buf + k->data.len;
    skip_blank(p);
    const u8 *start = p->at;
    PyObject *document = pack_one(k, 1);
    if (!document)
        return 0;
    long long number = k->line + line_ends(from, start);
    if (!taken(p, ',') || p->at - 1 - start > k->limit) {
        Py_DECREF(document);
        return 0;
    }
    if (!keep(k, document, number))
        return 0;
    k->line = number + line_ends(start, p->at);
    k->at = p->at - (const u8 *)k->data.buf;
    return 1;
}

static PyObject *packed(PyObject *args, int (*one)(Packing *)) {
    Packing k = {.limit = 0};
    PyObject *result = NULL;
    if (!PyArg_ParseTuple(args, "y*nLnny*y*y*pO", &k.data, &k.at, &k.line, &k.limit, &k.rows, &k.head, &k.tail, &k.tabooed, &k.keeps_ids, &k.new_id))
        return NULL;
    k.is_cut = k.tabooed.len > 0;
    k.documents = PyList_New(0);
    k.lines = PyList_New(0);
    if (k.at < 0 || k.at > k.data.len)
        PyErr_SetString(PyExc_ValueError, "the first line begins within the data");
    while (!PyErr_Occurred() && k.at < k.data.len && PyList_GET_SIZE(k.documents) < k.rows && one(&k))
        ;
    if (k.parser.out.is_short && !PyErr_Occurred())
        PyErr_NoMemory();
    if (!PyErr_Occurred())
        result = Py_BuildValue("OOnL", k.documents, k.lines, k.at, k.line);
    Py_XDECREF(k.documents);
    Py_XDECREF(k.lines);
    PyMem_RawFree(k.parser.out.data);
    PyMem_Free(k.parser.keys);
    PyBuffer_Release(&k.data);
    PyBuffer_Release(&k.head);
    PyBuffer_Release(&k.tail);
    PyBuffer_Release(&k.tabooed);
    return result;
}

/* pack_*(data, at, line, limit, rows, head, tail, tabooed, keeps_ids, new_id) -> (documents, their lines, at, line) of what comes next */
static PyObject *packing_pack_lines(PyObject *module, PyObject *args) { return packed(args, pack_line); }

static PyObject *packing_pack_elements(PyObject *module, PyObject *args) { return packed(args, pack_element); }

/* ---- The module. */

#ifndef KERNEL_SOURCE /* zlib's crc32 of this file, by setup.py: so that a test can tell a kernel that was not built again */
#define KERNEL_SOURCE 0u
#endif

static PyMethodDef packing_functions[] = {
    {"pack_lines", packing_pack_lines, METH_VARARGS, NULL},
    {"pack_elements", packing_pack_elements, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static int packing_make(PyObject *module) {
    PyObject *source = PyLong_FromUnsignedLong(KERNEL_SOURCE);
    int failed = !source || PyModule_AddObjectRef(module, "SOURCE", source) < 0;
    Py_XDECREF(source);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot packing_slots[] = {{Py_mod_exec, packing_make}, {0, NULL}};

static struct PyModuleDef packing_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "storage._packing",
    .m_doc = "Text to documents in bulk; see storage/packing.c.",
    .m_methods = packing_functions,
    .m_slots = packing_slots,
};

PyMODINIT_FUNC PyInit__packing(void) { return PyModuleDef_Init(&packing_module); }
