/* The load generator: connections that are open already, prepared requests, latencies. One thread, one epoll.
 *
 * Knows three answer streams (Twinlog's messages, plain or in packets; Redis; PostgreSQL) just well enough to find where
 * an answer ends, which request it answers and whether it is an error. Knows no handshake but TLS's: the caller opens
 * and greets the sockets, which are inherited. Requests are templates with places for numbers, so that it does next to
 * nothing for each of them and the server is what is measured.
 *
 * Standard input (load_orders.h reads it), one word and its values a line, ended by "go":
 *
 *   protocol twinlog|redis|postgres     tls 0|1                  of all connections
 *   depth D                             outstanding requests of each connection
 *   warmup S   seconds S                answers of the warm-up are not counted
 *   rate R                              requests/s over all connections, at fixed times; 0: as fast as answers come
 *   shed 0|1                            with a rate: a request that is due and finds no free slot is let go, and counted
 *   limit N                             requests in all; 0: until the seconds are over
 *   keys sequence|random FIRST COUNT    numbers to put in: FIRST, FIRST+1, ... or any of FIRST .. FIRST+COUNT-1
 *   answer_min BYTES                    a shorter answer is a miss (a document that was not there)
 *   answer_max BYTES                    a longer one too (an insert that lists errors); 0: no limit
 *   template HEX                        one request, framed; Twinlog: the message without packet
 *   patch KIND OFFSET                   slot16 u16 big-endian, 256 + slot: a Twinlog request's id
 *                                       key64 u64 big-endian    dec16 16 decimal digits    both take the next key
 *                                       write128                16 bytes that no other request has
 *   connection FD                       or: connection FD SEND_KEY SEND_COUNTER RECEIVE_KEY RECEIVE_COUNTER
 *
 * With a rate, latency counts from the time at which a request was due, so that a server's pause is not left out; every
 * request that was due is sent, also those that a pause held back past the end. late_us is how late the program itself was (p99.9).
 * Its cost: one recv and one send a connection and wake-up, whatever the protocol: TLS records, like packets, are made and
 * opened in memory. Connections are edge-triggered and registered once. cpu counts from the first request to the last answer.
 * Standard output: one JSON object. Exit status 1 and a line on standard error: what was wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define DEPTH_MAX 4096
#define PATCHES_MAX 200000
#define PACKET_BYTES_MAX (1 << 20)
#define TAG 16
#define PREFIX 4
#define SUB_BITS 6 /* a latency is kept within 1/64 of itself */
#define BUCKETS (64 << SUB_BITS)
#define DRAIN_SECONDS 30.0
#define EVENTS 256
#define READ_BYTES (256 * 1024)
#define TLS_RECORD_BYTES_MAX 16384

enum protocol { TWINLOG, REDIS, POSTGRES };
enum kind { SLOT16, KEY64, DEC16, WRITE128, KINDS };
static const char *KIND_NAMES[KINDS] = {"slot16", "key64", "dec16", "write128"};
static const size_t KIND_BYTES[KINDS] = {2, 8, 16, 16};

struct bytes {
    uint8_t *at;
    size_t length, room, begin; /* begin: what was used from the front */
};

struct patch {
    enum kind kind;
    size_t offset;
};

struct connection {
    int fd;
    SSL *ssl;
    EVP_CIPHER_CTX *sealer, *opener; /* NULL: plain */
    uint64_t sealed, opened;
    struct bytes in, inner, queued, out; /* from the socket; opened; before sealing; to the socket */
    double *began;                       /* by slot: when its request was due or sent */
    uint32_t *slots;                     /* free ones (Twinlog), or the ring of those under way (answers in order) */
    uint32_t free_count, head, outstanding;
    int failed_row, rows;
};

static enum protocol protocol;
static int shedding, use_tls, random_keys;
static uint32_t depth = 1;
static double warmup, seconds = 1, rate;
static uint64_t limit, key_first, key_count, key_next, write_next, random_state = 88172645463325252ULL;
static uint8_t write_salt[8];
static size_t answer_min, answer_max;
static uint8_t *template;
static size_t template_length;
static struct patch *patches;
static size_t patch_count;
static struct connection connections[CONNECTIONS_MAX];
static int connection_count, epoll_fd;
static BIO_METHOD *memory;
static uint64_t shed, issued, answered, counted, errors, misses, received_bytes, sent_bytes, wakeups;
static uint64_t histogram[BUCKETS], lateness[BUCKETS], lateness_counted;
static double latency_sum, latency_max, starts_at, counts_from, ends_at, last_counted, cpu_before;
static char first_error[400];

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static void *checked(void *memory) {
    if (!memory) die("out of memory");
    return memory;
}

/* Room for `more` bytes at the end; what was used from the front goes first. */
static uint8_t *reserve(struct bytes *b, size_t more) {
    if (b->begin && (b->begin == b->length || b->length + more > b->room)) {
        memmove(b->at, b->at + b->begin, b->length - b->begin);
        b->length -= b->begin;
        b->begin = 0;
    }
    if (b->length + more > b->room) {
        b->room = (b->length + more) * 2;
        b->at = checked(realloc(b->at, b->room));
    }
    return b->at + b->length;
}

static uint32_t little32(const uint8_t *at) { return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24; }
static uint32_t big32(const uint8_t *at) { return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]; }

static void put_big(uint8_t *at, uint64_t value, int size) {
    for (int i = size - 1; i >= 0; i--, value >>= 8) at[i] = (uint8_t)value;
}

static void put_decimal16(uint8_t *at, uint64_t value) {
    for (int i = 15; i >= 0; i--, value /= 10) at[i] = (uint8_t)('0' + value % 10);
}

/* Latencies: buckets that double, each cut into 2^SUB_BITS. */

static int bucket_of(uint64_t nanoseconds) {
    if (nanoseconds < (1u << SUB_BITS)) return (int)nanoseconds;
    int high = 63 - __builtin_clzll(nanoseconds), shift = high - SUB_BITS;
    return ((shift + 1) << SUB_BITS) + (int)((nanoseconds >> shift) & ((1u << SUB_BITS) - 1));
}

static double bucket_middle(int bucket) {
    if (bucket < (1 << SUB_BITS)) return bucket;
    int shift = (bucket >> SUB_BITS) - 1;
    double low = ldexp((double)((1 << SUB_BITS) + (bucket & ((1 << SUB_BITS) - 1))), shift);
    return low + ldexp(0.5, shift);
}

static void keep(uint64_t *buckets, double latency) {
    int bucket = bucket_of(latency > 0 ? (uint64_t)(latency * 1e9) : 0);
    buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
}

static double percentile(const uint64_t *buckets, uint64_t total, double share) {
    uint64_t wanted = (uint64_t)ceil(share * (double)total), seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += buckets[i]) >= wanted && seen) return bucket_middle(i) / 1000.0;
    return 0;
}

static double latency(double share) { return fmin(percentile(histogram, counted, share), latency_max * 1e6); }

/* Packets: u32 length, ciphertext, tag; nonce of 4 zeros and the counter, big-endian. */

static EVP_CIPHER_CTX *cipher(const uint8_t *key, int sealing) {
    EVP_CIPHER_CTX *context = checked(EVP_CIPHER_CTX_new());
    if (!EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, key, NULL, sealing)) die("AES-256-GCM cannot be set up");
    return context;
}

static void seal(struct connection *c) {
    while (c->queued.begin < c->queued.length) {
        size_t size = c->queued.length - c->queued.begin;
        if (size > PACKET_BYTES_MAX) size = PACKET_BYTES_MAX;
        uint8_t nonce[12] = {0}, *packet = reserve(&c->out, PREFIX + size + TAG);
        put_big(nonce + 4, c->sealed++, 8);
        for (int i = 0; i < 4; i++) packet[i] = (uint8_t)((size + TAG) >> (8 * i));
        int length;
        if (!EVP_EncryptInit_ex(c->sealer, NULL, NULL, NULL, nonce) ||
            !EVP_EncryptUpdate(c->sealer, packet + PREFIX, &length, c->queued.at + c->queued.begin, (int)size) ||
            !EVP_EncryptFinal_ex(c->sealer, packet + PREFIX + size, &length) ||
            !EVP_CIPHER_CTX_ctrl(c->sealer, EVP_CTRL_GCM_GET_TAG, TAG, packet + PREFIX + size))
            die("sealing failed");
        c->out.length += PREFIX + size + TAG;
        c->queued.begin += size;
    }
}

static void open_packets(struct connection *c) {
    while (c->in.length - c->in.begin >= PREFIX) {
        uint8_t *packet = c->in.at + c->in.begin;
        size_t length = little32(packet);
        if (length < TAG || length > PACKET_BYTES_MAX + TAG) die("a packet of %zu bytes", length);
        if (c->in.length - c->in.begin < PREFIX + length) return;
        size_t size = length - TAG;
        uint8_t nonce[12] = {0}, *plain = reserve(&c->inner, size);
        put_big(nonce + 4, c->opened++, 8);
        int written;
        if (!EVP_DecryptInit_ex(c->opener, NULL, NULL, NULL, nonce) ||
            !EVP_DecryptUpdate(c->opener, plain, &written, packet + PREFIX, (int)size) ||
            !EVP_CIPHER_CTX_ctrl(c->opener, EVP_CTRL_GCM_SET_TAG, TAG, packet + PREFIX + size) ||
            EVP_DecryptFinal_ex(c->opener, plain + size, &written) <= 0)
            die("packet %llu does not open", (unsigned long long)(c->opened - 1));
        c->inner.length += size;
        c->in.begin += PREFIX + length;
    }
}

/* TLS over two buffers: what came is taken from `in`, what is to go is put behind `out`. */

static int from_in(BIO *bio, char *to, int size) {
    struct bytes *in = &((struct connection *)BIO_get_data(bio))->in;
    size_t have = in->length - in->begin;
    BIO_clear_retry_flags(bio);
    if (!have) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if ((size_t)size > have) size = (int)have;
    memcpy(to, in->at + in->begin, (size_t)size);
    in->begin += (size_t)size;
    return size;
}

static int to_out(BIO *bio, const char *from, int size) {
    struct bytes *out = &((struct connection *)BIO_get_data(bio))->out;
    BIO_clear_retry_flags(bio);
    memcpy(reserve(out, (size_t)size), from, (size_t)size);
    out->length += (size_t)size;
    return size;
}

static long control(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static void write_tls(struct connection *c) {
    while (c->queued.begin < c->queued.length) {
        size_t size = c->queued.length - c->queued.begin;
        int written = SSL_write(c->ssl, c->queued.at + c->queued.begin, size > (1 << 30) ? 1 << 30 : (int)size);
        if (written <= 0) die("TLS: writing failed (%d)", SSL_get_error(c->ssl, written));
        c->queued.begin += (size_t)written;
    }
}

static void read_tls(struct connection *c) {
    for (;;) {
        int size = SSL_read(c->ssl, reserve(&c->inner, TLS_RECORD_BYTES_MAX), TLS_RECORD_BYTES_MAX);
        if (size <= 0) {
            int why = SSL_get_error(c->ssl, size);
            if (why == SSL_ERROR_ZERO_RETURN) die("the server closed a connection");
            if (why != SSL_ERROR_WANT_READ) die("TLS: reading failed (%d)", why);
            return;
        }
        c->inner.length += (size_t)size;
    }
}

static uint64_t next_key(void) {
    if (!random_keys) return key_first + key_next++;
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return key_first + random_state % key_count;
}

static void issue(struct connection *c, double due) {
    uint32_t slot;
    if (protocol == TWINLOG)
        slot = c->slots[--c->free_count];
    else
        slot = (c->head + c->outstanding) % depth;
    struct bytes *to = c->sealer || c->ssl ? &c->queued : &c->out;
    uint8_t *at = reserve(to, template_length);
    memcpy(at, template, template_length);
    for (size_t i = 0; i < patch_count; i++) {
        uint8_t *place = at + patches[i].offset;
        switch (patches[i].kind) {
        case SLOT16: put_big(place, 256 + slot, 2); break;
        case KEY64: put_big(place, next_key(), 8); break;
        case DEC16: put_decimal16(place, next_key()); break;
        case WRITE128:
            memcpy(place, write_salt, 8);
            put_big(place + 8, write_next++, 8);
            break;
        case KINDS: break;
        }
    }
    to->length += template_length;
    c->began[slot] = due;
    c->outstanding++;
    issued++;
}

static int may_issue(double at) { return at < ends_at && (!limit || issued < limit); }

static void flush(struct connection *c) {
    if (c->sealer) seal(c);
    if (c->ssl) write_tls(c);
    while (c->out.begin < c->out.length) {
        ssize_t sent = send(c->fd, c->out.at + c->out.begin, c->out.length - c->out.begin, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) return; /* the edge at which it can be written comes */
            die("sending: %s", strerror(errno));
        }
        c->out.begin += (size_t)sent;
        sent_bytes += (uint64_t)sent;
    }
}

static void remember_error(const uint8_t *text, size_t length) {
    errors++;
    if (*first_error) return;
    size_t used = 0;
    for (size_t i = 0; i < length && used < sizeof first_error - 1; i++)
        if (text[i] >= ' ' && text[i] < 127 && text[i] != '"' && text[i] != '\\') first_error[used++] = (char)text[i];
}

static void complete(struct connection *c, uint32_t slot, size_t length, int bad, double at) {
    if (!c->outstanding) die("an answer that nothing asked for");
    c->outstanding--;
    answered++;
    if (protocol == TWINLOG)
        c->slots[c->free_count++] = slot;
    else
        c->head = (c->head + 1) % depth;
    if (!bad && (length < answer_min || (answer_max && length > answer_max))) misses++;
    if (c->began[slot] < counts_from || c->began[slot] >= ends_at || bad) return;
    double took = at - c->began[slot];
    keep(histogram, took);
    latency_sum += took;
    if (took > latency_max) latency_max = took;
    counted++;
    last_counted = at;
}

/* [ "reply" | "failure", id, ... ]: the id is a u16 that this program chose. */
static size_t twinlog_answer(struct connection *c, const uint8_t *at, size_t have, double when) {
    if (have < PREFIX) return 0;
    size_t length = little32(at);
    if (have < PREFIX + length) return 0;
    const uint8_t *body = at + PREFIX;
    if (length < 12 || (body[0] & 0xf0) != 0x90) die("an answer that is no array");
    int failure = body[1] == 0xa7 && !memcmp(body + 2, "failure", 7);
    if (!failure && (body[1] != 0xa5 || memcmp(body + 2, "reply", 5))) die("an answer of an unknown kind");
    const uint8_t *id = body + (failure ? 9 : 7);
    uint32_t slot = (uint32_t)(id[1] << 8 | id[2]) - 256;
    if (id[0] != 0xcd || slot >= depth) die("an answer to an unknown request");
    if (failure) remember_error(body, length);
    complete(c, slot, length, failure, when);
    return PREFIX + length;
}

/* One of + - : $ ; nothing here asks for arrays. */
static size_t redis_answer(struct connection *c, const uint8_t *at, size_t have, double when) {
    const uint8_t *end = memchr(at, '\n', have);
    if (!end) return 0;
    size_t line = (size_t)(end - at) + 1, length = line;
    if (*at == '$' && at[1] != '-') {
        length = line + (size_t)strtoull((const char *)at + 1, NULL, 10) + 2;
        if (have < length) return 0;
    } else if (!strchr("+-:$", *at)) {
        die("an answer that begins with byte %d", *at);
    }
    if (*at == '-') remember_error(at, line);
    complete(c, c->head, length, *at == '-', when);
    return length;
}

/* Messages up to ReadyForQuery are one answer. */
static size_t postgres_answer(struct connection *c, const uint8_t *at, size_t have, double when) {
    if (have < 5) return 0;
    size_t length = 1 + (size_t)big32(at + 1);
    if (have < length) return 0;
    if (*at == 'E') {
        remember_error(at + 5, length - 5);
        c->failed_row = 1;
    } else if (*at == 'D') {
        c->rows += (int)length;
    } else if (*at == 'Z') {
        complete(c, c->head, answer_min ? (size_t)c->rows : 1, c->failed_row, when);
        c->failed_row = c->rows = 0;
    }
    return length;
}

static void take_answers(struct connection *c) {
    struct bytes *from = &c->in;
    if (c->opener) open_packets(c);
    if (c->ssl) read_tls(c);
    if (c->opener || c->ssl) from = &c->inner;
    double at = now();
    while (from->begin < from->length) {
        const uint8_t *begin = from->at + from->begin;
        size_t have = from->length - from->begin, used;
        if (protocol == TWINLOG) used = twinlog_answer(c, begin, have, at);
        else if (protocol == REDIS) used = redis_answer(c, begin, have, at);
        else used = postgres_answer(c, begin, have, at);
        if (!used) break;
        from->begin += used;
    }
    if (rate == 0)
        while (c->outstanding < depth && may_issue(at)) issue(c, at);
}

static void receive(struct connection *c) {
    ssize_t size = READ_BYTES;
    while (size == READ_BYTES) { /* a short read has taken all; what comes later is another edge */
        size = recv(c->fd, reserve(&c->in, READ_BYTES), READ_BYTES, 0);
        if (size < 0 && errno == EAGAIN) break;
        if (size < 0) die("receiving: %s", strerror(errno));
        if (!size) die("the server closed a connection");
        c->in.length += (size_t)size;
        received_bytes += (uint64_t)size;
    }
    take_answers(c);
    flush(c);
}

/* On the blocking socket, byte by byte as the records say, so that nothing is left behind when the buffers take over. */
static void shake_hands(SSL_CTX *context, struct connection *c) {
    c->ssl = checked(SSL_new(context));
    SSL_set_fd(c->ssl, c->fd);
    if (SSL_connect(c->ssl) != 1) die("TLS handshake failed: %s", ERR_error_string(ERR_get_error(), NULL));
    BIO *bio = checked(BIO_new(memory));
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->ssl, bio, bio);
}

static void begin(void) {
    SSL_CTX *context = NULL;
    if (use_tls) {
        context = checked(SSL_CTX_new(TLS_client_method())); /* the certificate is a throw-away of this run */
        memory = checked(BIO_meth_new(BIO_TYPE_SOURCE_SINK, "buffers"));
        BIO_meth_set_read(memory, from_in);
        BIO_meth_set_write(memory, to_out);
        BIO_meth_set_ctrl(memory, control);
    }
    epoll_fd = epoll_create1(0);
    for (int i = 0; i < connection_count; i++) {
        struct connection *c = &connections[i];
        c->began = checked(calloc(depth, sizeof *c->began));
        c->slots = checked(calloc(depth, sizeof *c->slots));
        c->free_count = depth;
        for (uint32_t slot = 0; slot < depth; slot++) c->slots[slot] = slot;
        fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) & ~O_NONBLOCK);
        if (context) shake_hands(context, c);
        fcntl(c->fd, F_SETFL, fcntl(c->fd, F_GETFL) | O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event)) die("epoll: %s", strerror(errno));
    }
}

/* Requests at fixed times, over the connections in turn; one that finds no free slot waits, and its latency with it.
 * Returns when the next one is due, or infinity. */
static double issue_due(double at) {
    static uint64_t scheduled;
    static int turn, held_back; /* held_back: by the server, which has not answered; that is not this program's lateness */
    double due;
    while ((due = starts_at + (double)scheduled / rate) < ends_at && !(limit && issued >= limit) && due <= at) {
        struct connection *c = NULL;
        for (int tried = 0; tried < connection_count && !c; tried++) {
            struct connection *candidate = &connections[turn];
            turn = (turn + 1) % connection_count;
            if (candidate->outstanding < depth) c = candidate;
        }
        if (!c && shedding) {
            shed += due >= counts_from;
            scheduled++;
            continue;
        }
        if (!c) {
            held_back = 1;
            break;
        }
        if (!held_back && due >= counts_from) {
            keep(lateness, at - due);
            lateness_counted++;
        }
        issue(c, due);
        scheduled++;
    }
    if (due > at) held_back = 0;
    for (int i = 0; i < connection_count; i++)
        if (connections[i].out.begin < connections[i].out.length || connections[i].queued.begin < connections[i].queued.length)
            flush(&connections[i]);
    return due < ends_at && !(limit && issued >= limit) ? due : INFINITY;
}

static void set_timer(int timer, double at) {
    struct itimerspec when = {.it_value = {(time_t)at, (long)((at - floor(at)) * 1e9)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static void drive(void) {
    struct epoll_event events[EVENTS];
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    double due = INFINITY, timer_at = 0, at = starts_at = now();
    counts_from = starts_at + warmup;
    ends_at = counts_from + seconds;
    cpu_before = cpu_seconds();
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &event);
    if (rate > 0) due = issue_due(at);
    else
        for (int i = 0; i < connection_count; i++) {
            while (connections[i].outstanding < depth && may_issue(starts_at)) issue(&connections[i], starts_at);
            flush(&connections[i]);
        }
    while (issued != answered || (rate > 0 ? isfinite(due) : may_issue(at))) {
        if (at > ends_at + DRAIN_SECONDS) die("%llu requests had no answer %.0f s after the end", (unsigned long long)(issued - answered), DRAIN_SECONDS);
        if (isfinite(due) && due > at && due != timer_at) set_timer(timer, timer_at = due); /* overdue: an answer wakes us */
        int ready = epoll_wait(epoll_fd, events, EVENTS, 100);
        wakeups++;
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) continue; /* the timer */
            if (events[i].events & ~(uint32_t)EPOLLOUT) receive(c);
            else flush(c);
        }
        at = now();
        if (rate > 0) due = issue_due(at);
    }
}

#include "load_orders.h"

static void print_results(void) {
    double ended = now(), span = last_counted > counts_from ? last_counted - counts_from : 0;
    printf("{\"shed\": %llu, \"requests\": %llu, \"answered\": %llu, \"counted\": %llu, \"errors\": %llu, \"misses\": %llu, \"first_error\": \"%s\",",
           (unsigned long long)shed, (unsigned long long)issued, (unsigned long long)answered, (unsigned long long)counted, (unsigned long long)errors,
           (unsigned long long)misses, first_error);
    printf(" \"seconds\": %.6f, \"wall\": %.6f, \"cpu\": %.6f, \"per_second\": %.3f, \"keys\": %llu,", span, ended - starts_at, cpu_seconds() - cpu_before,
           span > 0 ? (double)counted / span : 0, (unsigned long long)key_next);
    printf(" \"sent_bytes\": %llu, \"received_bytes\": %llu, \"mean_us\": %.3f, \"p50_us\": %.3f, \"p99_us\": %.3f,", (unsigned long long)sent_bytes,
           (unsigned long long)received_bytes, counted ? latency_sum / (double)counted * 1e6 : 0, latency(0.50), latency(0.99));
    printf(" \"p999_us\": %.3f, \"max_us\": %.3f, \"late_us\": %.3f, \"wakeups\": %llu}\n", latency(0.999), latency_max * 1e6,
           percentile(lateness, lateness_counted, 0.999), (unsigned long long)wakeups);
}

int main(void) {
    read_orders();
    check_orders();
    begin();
    drive();
    print_results();
    return 0;
}
