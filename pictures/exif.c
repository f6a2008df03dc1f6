/* EXIF: the tags of its TIFF bytes, read with every offset checked. */
#include "pictures/internal.h"

#include <string.h>

enum { MAX_ENTRIES = 128, MAX_TEXT = 1024, MAX_NUMBERS = 4, TAG_ORIENTATION = 0x0112, TAG_EXIF_IFD = 0x8769 };

typedef struct {
    const unsigned char *data;
    size_t size;
    bool big_endian;
} tiff;

static const struct {
    uint16_t tag;
    const char *name;
} NAMES[] = {
    {0x010E, "ImageDescription"},
    {0x010F, "Make"},
    {0x0110, "Model"},
    {0x0112, "Orientation"},
    {0x011A, "XResolution"},
    {0x011B, "YResolution"},
    {0x0128, "ResolutionUnit"},
    {0x0131, "Software"},
    {0x0132, "DateTime"},
    {0x013B, "Artist"},
    {0x8298, "Copyright"},
    {0x829A, "ExposureTime"},
    {0x829D, "FNumber"},
    {0x8822, "ExposureProgram"},
    {0x8827, "ISOSpeedRatings"},
    {0x9003, "DateTimeOriginal"},
    {0x9004, "DateTimeDigitized"},
    {0x9201, "ShutterSpeedValue"},
    {0x9202, "ApertureValue"},
    {0x9204, "ExposureBiasValue"},
    {0x9205, "MaxApertureValue"},
    {0x9207, "MeteringMode"},
    {0x9208, "LightSource"},
    {0x9209, "Flash"},
    {0x920A, "FocalLength"},
    {0xA001, "ColorSpace"},
    {0xA002, "PixelXDimension"},
    {0xA003, "PixelYDimension"},
    {0xA402, "ExposureMode"},
    {0xA403, "WhiteBalance"},
    {0xA405, "FocalLengthIn35mmFilm"},
    {0xA406, "SceneCaptureType"},
    {0xA433, "LensMake"},
    {0xA434, "LensModel"},
};

static uint32_t read_u16(const tiff *t, size_t at) {
    const unsigned char *p = t->data + at;
    return t->big_endian ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t read_u32(const tiff *t, size_t at) {
    return t->big_endian ? read_u16(t, at) << 16 | read_u16(t, at + 2) : read_u16(t, at + 2) << 16 | read_u16(t, at);
}

static json_t *read_text(const tiff *t, size_t at, size_t count) {
    const char *text = (const char *)t->data + at;
    size_t size = strnlen(text, count);
    while (size && text[size - 1] == ' ') size--;
    return size && limn_utf8_valid(text, size) ? json_stringn(text, size) : NULL;
}

static json_t *read_number(const tiff *t, size_t at, uint32_t type) {
    switch (type) {
    case 3:
        return json_integer(read_u16(t, at));
    case 4:
        return json_integer(read_u32(t, at));
    case 5:
        return json_sprintf("%u/%u", read_u32(t, at), read_u32(t, at + 4));
    case 9:
        return json_integer((int32_t)read_u32(t, at));
    case 10:
        return json_sprintf("%d/%d", (int32_t)read_u32(t, at), (int32_t)read_u32(t, at + 4));
    default:
        return NULL;
    }
}

/* Value of the 12-byte entry at `entry`; NULL when it is of no use. */
static json_t *read_value(const tiff *t, size_t entry) {
    static const size_t sizes[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8};
    const uint32_t type = read_u16(t, entry + 2);
    const size_t count = read_u32(t, entry + 4);
    if (type >= sizeof sizes / sizeof *sizes || sizes[type] == 0 || count == 0 || count > MAX_TEXT) return NULL;
    const size_t bytes = count * sizes[type];
    const size_t at = bytes <= 4 ? entry + 8 : read_u32(t, entry + 8);
    if (at > t->size || bytes > t->size - at) return NULL;
    if (type == 2) return read_text(t, at, count);
    if (count > MAX_NUMBERS) return NULL;
    if (count == 1) return read_number(t, at, type);
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *number = read_number(t, at + i * sizes[type], type);
        if (number) json_array_append_new(array, number);
    }
    if (json_array_size(array) == count) return array;
    json_decref(array);
    return NULL;
}

/* Reads one directory; `depth` ends chains of directories that point at each other. */
static void read_directory(const tiff *t, size_t at, int depth, json_t *out) {
    if (at > t->size || t->size - at < 2) return;
    size_t entries = read_u16(t, at);
    if (entries > MAX_ENTRIES) entries = MAX_ENTRIES;
    for (size_t i = 0; i < entries; i++) {
        const size_t entry = at + 2 + 12 * i;
        if (entry > t->size || t->size - entry < 12) return;
        const uint32_t tag = read_u16(t, entry);
        if (tag == TAG_EXIF_IFD && depth == 0) read_directory(t, read_u32(t, entry + 8), 1, out);
        for (size_t n = 0; n < sizeof NAMES / sizeof *NAMES; n++)
            if (NAMES[n].tag == tag) json_object_set_new(out, NAMES[n].name, read_value(t, entry));
    }
}

static bool open_tiff(tiff *t, const unsigned char *data, size_t size) {
    picture_metadata metadata;
    metadata_read(&metadata, data, size, false);
    if (metadata.exif_size < 8) return false;
    *t = (tiff){.data = metadata.exif, .size = metadata.exif_size, .big_endian = metadata.exif[0] == 'M'};
    return read_u16(t, 0) == (t->big_endian ? 0x4D4D : 0x4949) && read_u16(t, 2) == 42;
}

json_t *exif_read(const unsigned char *data, size_t size) {
    tiff t;
    if (!open_tiff(&t, data, size)) return NULL;
    json_t *tags = json_object();
    read_directory(&t, read_u32(&t, 4), 0, tags);
    if (json_object_size(tags)) return tags;
    json_decref(tags);
    return NULL;
}

unsigned exif_orientation(const unsigned char *data, size_t size) {
    tiff t;
    if (!open_tiff(&t, data, size)) return 1;
    const size_t at = read_u32(&t, 4);
    if (at > t.size || t.size - at < 2) return 1;
    const size_t entries = read_u16(&t, at);
    for (size_t i = 0; i < entries; i++) {
        const size_t entry = at + 2 + 12 * i;
        if (entry > t.size || t.size - entry < 12) return 1;
        if (read_u16(&t, entry) != TAG_ORIENTATION) continue;
        const uint32_t type = read_u16(&t, entry + 2), value = type == 4 ? read_u32(&t, entry + 8) : read_u16(&t, entry + 8);
        const bool whole = type == 3 || type == 4; /* some writers use a LONG */
        return whole && value >= 1 && value <= 8 ? (unsigned)value : 1;
    }
    return 1;
}
