/* A reader of JSON (RFC 8259) in UTF-8 that takes what is ordinary and gives up on all else. */
#include "json.h"
#include <string.h>

static const uint64_t ONES = 0x0101010101010101u, TOPS = 0x8080808080808080u;

/* Bytes from `at` on that stand for themselves in a string, up to `end`. */
static const uint8_t *plain_until(const uint8_t *at, const uint8_t *end)
{
    while (end - at >= 8) {
        uint64_t word, quote, slash;
        memcpy(&word, at, 8);
        quote = word ^ ONES * '"';
        slash = word ^ ONES * '\\';
        /* A borrow may mark a byte too many, never one too few: those are looked at one by one below. */
        if ((((word - ONES * 0x20) & ~word) | ((quote - ONES) & ~quote) | ((slash - ONES) & ~slash) | word) &
            TOPS)
            break;
        at += 8;
    }
    while (at < end && *at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\')
        at++;
    return at;
}

/* The bytes of one character beyond ASCII, 0 where it is not well-formed (Unicode, table 3-7). */
static int character_size(const uint8_t *at, const uint8_t *end)
{
    uint8_t first = at[0], least = 0x80, most = 0xbf;
    int size;
    if (first >= 0xc2 && first <= 0xdf)
        size = 2;
    else if (first >= 0xe0 && first <= 0xef) {
        size = 3;
        least = first == 0xe0 ? 0xa0 : 0x80;
        most = first == 0xed ? 0x9f : 0xbf;
    } else if (first >= 0xf0 && first <= 0xf4) {
        size = 4;
        least = first == 0xf0 ? 0x90 : 0x80;
        most = first == 0xf4 ? 0x8f : 0xbf;
    } else
        return 0;
    if (end - at < size || at[1] < least || at[1] > most)
        return 0;
    for (int place = 2; place < size; place++)
        if (at[place] < 0x80 || at[place] > 0xbf)
            return 0;
    return size;
}

static int hex_digits(const uint8_t *at, const uint8_t *end, uint32_t *out)
{
    if (end - at < 4)
        return -1;
    *out = 0;
    for (int place = 0; place < 4; place++) {
        uint8_t byte = at[place];
        uint32_t digit;
        if (byte >= '0' && byte <= '9')
            digit = byte - '0';
        else if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f')
            digit = (byte | 0x20) - 'a' + 10u;
        else
            return -1;
        *out = *out << 4 | digit;
    }
    return 0;
}

static uint8_t *put_character(uint8_t *out, uint32_t code)
{
    if (code < 0x80)
        *out++ = (uint8_t)code;
    else if (code < 0x800) {
        *out++ = (uint8_t)(0xc0 | code >> 6);
        *out++ = (uint8_t)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (uint8_t)(0xe0 | code >> 12);
        *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (code & 0x3f));
    } else {
        *out++ = (uint8_t)(0xf0 | code >> 18);
        *out++ = (uint8_t)(0x80 | (code >> 12 & 0x3f));
        *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        *out++ = (uint8_t)(0x80 | (code & 0x3f));
    }
    return out;
}

/* What the escape at `at`, behind its backslash, stands for; where it ends, NULL where it is none. */
static const uint8_t *read_escape(const uint8_t *at, const uint8_t *end, uint32_t *code)
{
    uint32_t low;
    if (at >= end)
        return NULL;
    switch (*at) {
    case '"': case '\\': case '/': *code = *at; return at + 1;
    case 'b': *code = '\b'; return at + 1;
    case 'f': *code = '\f'; return at + 1;
    case 'n': *code = '\n'; return at + 1;
    case 'r': *code = '\r'; return at + 1;
    case 't': *code = '\t'; return at + 1;
    case 'u': break;
    default: return NULL;
    }
    if (hex_digits(at + 1, end, code) < 0)
        return NULL;
    at += 5;
    if (*code < 0xd800 || *code > 0xdfff)
        return at;
    if (*code > 0xdbff || end - at < 6 || at[0] != '\\' || at[1] != 'u' || hex_digits(at + 2, end, &low) < 0 ||
        low < 0xdc00 || low > 0xdfff)
        return NULL; /* half a pair */
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return at + 6;
}

int read_text(struct cursor *c, struct text *out)
{
    const uint8_t *at = c->at, *end = c->end, *start;
    uint8_t *copy = NULL;
    if (at >= end || *at != '"')
        return -1;
    start = ++at;
    out->ascii = 1;
    for (;;) {
        at = plain_until(at, end);
        if (at >= end || *at < 0x20)
            return -1;
        if (*at == '"')
            break;
        if (*at >= 0x80) {
            int size = character_size(at, end);
            if (size == 0)
                return -1;
            out->ascii = 0;
            at += size;
        } else {
            uint32_t code;
            if (copy == NULL) {
                copy = c->scratch;
                out->data = copy;
            }
            memcpy(copy, start, (size_t)(at - start));
            copy += at - start;
            do { /* Some texts are all escapes. */
                at = read_escape(at + 1, end, &code);
                if (at == NULL)
                    return -1;
                out->ascii &= code < 0x80;
                copy = put_character(copy, code);
            } while (at < end && *at == '\\');
            start = at;
        }
    }
    if (copy == NULL) {
        out->data = start;
        out->size = (size_t)(at - start);
    } else {
        memcpy(copy, start, (size_t)(at - start));
        copy += at - start;
        out->size = (size_t)(copy - out->data);
        c->scratch = copy;
    }
    c->at = at + 1;
    return 0;
}

static int is_digit(const struct cursor *c)
{
    return c->at < c->end && *c->at >= '0' && *c->at <= '9';
}

/* A number by its grammar; `whole`: it has neither fraction nor exponent. */
static int skip_number(struct cursor *c, int *whole)
{
    *whole = 1;
    if (c->at < c->end && *c->at == '-')
        c->at++;
    if (!is_digit(c))
        return -1;
    if (*c->at == '0')
        c->at++;
    else
        while (is_digit(c))
            c->at++;
    if (is_digit(c))
        return -1;
    if (c->at < c->end && *c->at == '.') {
        *whole = 0;
        c->at++;
        if (!is_digit(c))
            return -1;
        while (is_digit(c))
            c->at++;
    }
    if (c->at < c->end && (*c->at | 0x20) == 'e') {
        *whole = 0;
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-'))
            c->at++;
        if (!is_digit(c))
            return -1;
        while (is_digit(c))
            c->at++;
    }
    return 0;
}

int read_integer(struct cursor *c, int64_t *out)
{
    const uint8_t *start = c->at;
    int whole;
    if (skip_number(c, &whole) < 0 || !whole || c->at - start > 16)
        return -1;
    *out = 0;
    for (const uint8_t *at = start + (*start == '-'); at < c->at; at++)
        *out = *out * 10 + (*at - '0');
    if (*start == '-')
        *out = -*out;
    return 0;
}

int read_float(struct cursor *c, double *out)
{
    const uint8_t *start = c->at;
    char digits[24];
    int whole;
    if (skip_number(c, &whole) < 0 || (size_t)(c->at - start) >= sizeof digits)
        return -1;
    memcpy(digits, start, (size_t)(c->at - start));
    digits[c->at - start] = 0;
    if (strpbrk(digits, "eE") != NULL)
        return -1;
    *out = PyOS_string_to_double(digits, NULL, NULL);
    if (*out == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return -1;
    }
    return *out == 0 && *start == '-' ? -1 : 0; /* Minus nothing is told in two ways. */
}

void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
        c->at++;
}

int taken(struct cursor *c, uint8_t byte)
{
    skip_space(c);
    if (c->at >= c->end || *c->at != byte)
        return 0;
    c->at++;
    return 1;
}

int taken_word(struct cursor *c, const char *word, size_t size)
{
    if ((size_t)(c->end - c->at) < size || memcmp(c->at, word, size) != 0)
        return 0;
    c->at += size;
    return 1;
}

int next_member(struct cursor *c, uint8_t closing)
{
    if (taken(c, ',')) {
        skip_space(c);
        return 1;
    }
    return taken(c, closing) ? 0 : -1;
}

int read_name(struct cursor *c, struct text *name)
{
    const uint8_t *start = c->at + 1;
    if (read_text(c, name) < 0 || name->data != start || !name->ascii || !taken(c, ':'))
        return -1;
    skip_space(c);
    return 0;
}

int skip_value(struct cursor *c, int depth)
{
    struct text text;
    int whole, more;
    uint8_t *scratch = c->scratch;
    if (depth > NESTED_AT_MOST || c->at >= c->end)
        return -1;
    switch (*c->at) {
    case '"':
        if (read_text(c, &text) < 0)
            return -1;
        c->scratch = scratch; /* Nobody wants it unescaped. */
        return 0;
    case 't': return taken_word(c, "true", 4) ? 0 : -1;
    case 'f': return taken_word(c, "false", 5) ? 0 : -1;
    case 'n': return TAKEN_NULL(c) ? 0 : -1;
    case '[':
        c->at++;
        if (taken(c, ']'))
            return 0;
        do {
            if (skip_value(c, depth + 1) < 0)
                return -1;
            more = next_member(c, ']');
        } while (more > 0);
        return more;
    case '{':
        c->at++;
        if (taken(c, '}'))
            return 0;
        do {
            if (read_text(c, &text) < 0 || !taken(c, ':'))
                return -1;
            c->scratch = scratch;
            skip_space(c);
            if (skip_value(c, depth + 1) < 0)
                return -1;
            more = next_member(c, '}');
        } while (more > 0);
        return more;
    default: return skip_number(c, &whole);
    }
}

int read_short(struct cursor *c, struct text *out, size_t most)
{
    return read_text(c, out) < 0 || out->size > most ? -1 : 0;
}

int read_short_or_null(struct cursor *c, struct text *out, size_t most)
{
    return TAKEN_NULL(c) ? 0 : read_short(c, out, most);
}

int read_empty(struct cursor *c)
{
    return TAKEN_NULL(c) || (taken(c, '[') && taken(c, ']')) ? 0 : -1;
}

int begin_object(struct cursor *c)
{
    if (!taken(c, '{'))
        return -1;
    if (taken(c, '}'))
        return 0;
    skip_space(c);
    return 1;
}

PyObject *text_object(const struct text *text)
{
    return PyUnicode_DecodeUTF8((const char *)text->data, (Py_ssize_t)text->size, NULL);
}
