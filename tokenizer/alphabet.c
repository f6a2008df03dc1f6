/* Bytes as printable characters (Radford and others, GPT-2, bytes_to_unicode): a vocabulary file is then plain JSON text. */
#include "tokenizer/internal.h"

static bool byte_is_printable(unsigned byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* Bytes without a printable character of their own are numbered in byte order from U+0100: 0-32, 127-160 and 173. */
uint32_t byte_character(unsigned char byte) {
    if (byte_is_printable(byte)) return byte;
    if (byte <= ' ') return 0x100u + byte;
    if (byte <= 0xA0) return 0x100u + 33u + (byte - 127u);
    return 0x100u + 33u + 34u;
}

int character_byte(uint32_t character) {
    if (character < 0x100) return byte_is_printable(character) ? (int)character : -1;
    uint32_t index = character - 0x100;
    if (index < 33) return (int)index;
    if (index < 33 + 34) return (int)(127 + index - 33);
    return index == 33 + 34 ? 0xAD : -1;
}

void alphabet_order(unsigned char order[256]) {
    size_t n = 0;
    for (uint32_t character = 0; character < 0x100 + 68; character++) {
        int byte = character_byte(character);
        if (byte >= 0) order[n++] = (unsigned char)byte;
    }
}
