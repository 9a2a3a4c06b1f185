/* The orders of load.c, read from standard input into its variables and checked; the words are listed at its head.
 * Included by load.c in its place; knows no socket.
 */

static size_t from_hex(const char *text, uint8_t *to, size_t room) {
    size_t length = strlen(text) / 2;
    if (length > room) die("%zu bytes where %zu have room", length, room);
    for (size_t i = 0; i < length; i++) {
        unsigned value;
        if (sscanf(text + 2 * i, "%2x", &value) != 1) die("not hex: %.20s", text + 2 * i);
        to[i] = (uint8_t)value;
    }
    return length;
}

static void read_patch(const char *line) {
    char kind[16];
    size_t offset;
    if (sscanf(line, "%15s %zu", kind, &offset) != 2 || patch_count == PATCHES_MAX) die("patch %s", line);
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(kind, KIND_NAMES[i])) {
            patches[patch_count++] = (struct patch){(enum kind)i, offset};
            return;
        }
    die("patch %s", kind);
}

static void read_connection(const char *line) {
    char sending[65], receiving[65];
    uint8_t key[32];
    if (connection_count == CONNECTIONS_MAX) die("more than %d connections", CONNECTIONS_MAX);
    struct connection *c = &connections[connection_count++];
    unsigned long long sealed, opened;
    int fields = sscanf(line, "%d %64s %llu %64s %llu", &c->fd, sending, &sealed, receiving, &opened);
    if (fields != 5) {
        if (fields != 1) die("connection %s", line);
        return;
    }
    from_hex(sending, key, sizeof key);
    c->sealer = cipher(key, 1);
    from_hex(receiving, key, sizeof key);
    c->opener = cipher(key, 0);
    c->sealed = sealed;
    c->opened = opened;
}

static void read_orders(void) {
    char *line = NULL, word[32], value[32];
    size_t room = 0;
    ssize_t size;
    patches = checked(calloc(PATCHES_MAX, sizeof *patches));
    while ((size = getline(&line, &room, stdin)) > 0) {
        if (line[size - 1] == '\n') line[size - 1] = 0;
        if (sscanf(line, "%31s", word) != 1) continue;
        const char *rest = line + strlen(word) + (line[strlen(word)] == ' ');
        unsigned long long first, count;
        if (!strcmp(word, "go")) return;
        if (!strcmp(word, "protocol")) protocol = !strcmp(rest, "twinlog") ? TWINLOG : !strcmp(rest, "redis") ? REDIS : POSTGRES;
        else if (!strcmp(word, "tls")) use_tls = atoi(rest);
        else if (!strcmp(word, "depth")) depth = (uint32_t)atoi(rest);
        else if (!strcmp(word, "warmup")) warmup = atof(rest);
        else if (!strcmp(word, "seconds")) seconds = atof(rest);
        else if (!strcmp(word, "rate")) rate = atof(rest);
        else if (!strcmp(word, "shed")) shedding = atoi(rest);
        else if (!strcmp(word, "limit")) limit = strtoull(rest, NULL, 10);
        else if (!strcmp(word, "answer_min")) answer_min = strtoull(rest, NULL, 10);
        else if (!strcmp(word, "answer_max")) answer_max = strtoull(rest, NULL, 10);
        else if (!strcmp(word, "patch")) read_patch(rest);
        else if (!strcmp(word, "connection")) read_connection(rest);
        else if (!strcmp(word, "keys") && sscanf(rest, "%31s %llu %llu", value, &first, &count) == 3) {
            random_keys = !strcmp(value, "random");
            key_first = first;
            key_count = count ? count : 1;
        } else if (!strcmp(word, "template")) {
            template = checked(malloc(strlen(rest) / 2 + 1));
            template_length = from_hex(rest, template, strlen(rest) / 2);
        } else die("unknown order %s", word);
    }
    die("standard input ended before go");
}

static void check_orders(void) {
    if (!template_length || !connection_count || depth < 1 || depth > DEPTH_MAX) die("template, connections and a depth up to %d are needed", DEPTH_MAX);
    for (size_t i = 0; i < patch_count; i++) {
        if (patches[i].offset + KIND_BYTES[patches[i].kind] > template_length) die("patch %zu lies past the template", i);
    }
    if (getrandom(write_salt, sizeof write_salt, 0) != sizeof write_salt) die("no randomness");
}
