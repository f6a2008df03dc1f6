/* The progress line, and time. */
#include "core/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES = 64 };
static const double PLAIN_INTERVAL = 30.0, REDRAW_INTERVAL = 0.1, RATE_WINDOW = 30.0;

struct limn_progress {
    char what[64], unit[64], text[512];
    uint64_t start, total, done;
    double began, drawn; /* seconds; `drawn` is when the line was last written */
    bool terminal;
    /* A ring of (time, done), one at most every half second: the rate is from the oldest of the window to now. */
    struct {
        double time;
        uint64_t done;
    } samples[SAMPLES];
    size_t sample_count;
};

static limn_progress *live; /* the one on the terminal's last line; guarded by limn_terminal_lock */

double limn_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* 1234567 as "1,234,567". */
static void format_count(uint64_t value, char out[32]) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    char *to = out;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = '\0';
}

static void format_duration(double seconds, char out[48]) {
    uint64_t whole = seconds < 0 ? 0 : seconds > 1e9 ? (uint64_t)1e9 : (uint64_t)(seconds + 0.5);
    if (whole < 60)
        snprintf(out, 48, "%d s", (int)whole);
    else if (whole < 3600)
        snprintf(out, 48, "%d min %02d s", (int)(whole / 60), (int)(whole % 60));
    else if (whole < 48 * 3600)
        snprintf(out, 48, "%d h %02d min", (int)(whole / 3600), (int)(whole / 60 % 60));
    else
        snprintf(out, 48, "%d days %d h", (int)(whole / 86400), (int)(whole / 3600 % 24));
}

static void format_rate(double rate, char out[48]) {
    if (rate >= 100) {
        char count[32];
        format_count((uint64_t)(rate + 0.5), count);
        snprintf(out, 48, "%s/s", count);
    } else if (rate >= 10) {
        snprintf(out, 48, "%.1f/s", rate);
    } else if (rate >= 0.1) {
        snprintf(out, 48, "%.2f/s", rate);
    } else {
        snprintf(out, 48, "%.2f/min", rate * 60);
    }
}

static double recent_rate(const limn_progress *progress, double now) {
    for (size_t age = progress->sample_count < SAMPLES ? progress->sample_count : SAMPLES; age > 0; age--) {
        size_t slot = (progress->sample_count - age) % SAMPLES;
        double elapsed = now - progress->samples[slot].time;
        if ((elapsed <= RATE_WINDOW || age == 1) && elapsed > 0 && progress->done >= progress->samples[slot].done)
            return (double)(progress->done - progress->samples[slot].done) / elapsed;
    }
    return 0;
}

/* The whole line; at the end with the rate of the whole run and the time it took. */
static void format_line(const limn_progress *progress, double now, bool end, char *out, size_t size) {
    char done[32], total[40] = "", percent[32] = "", speed[64] = "", time_left[64] = "";
    format_count(progress->done, done);
    if (progress->total) {
        memcpy(total, " / ", 3);
        format_count(progress->total, total + 3);
        snprintf(percent, sizeof percent, "  %.1f%%", 100.0 * (double)progress->done / (double)progress->total);
    }
    double elapsed = now - progress->began;
    uint64_t made = progress->done > progress->start ? progress->done - progress->start : 0;
    double rate = !end ? recent_rate(progress, now) : elapsed > 0 ? (double)made / elapsed : 0;
    if (rate > 0) {
        char text[48];
        format_rate(rate, text);
        snprintf(speed, sizeof speed, "  %s", text);
        if (end) {
            format_duration(elapsed, text);
            snprintf(time_left, sizeof time_left, "  in %s", text);
        } else if (progress->total > progress->done) {
            format_duration((double)(progress->total - progress->done) / rate, text);
            snprintf(time_left, sizeof time_left, "  %s left", text);
        }
    }
    snprintf(out, size, "%s  %s%s %s%s%s%s%s%s", progress->what, done, total, progress->unit, percent, speed, time_left,
             progress->text[0] ? "  " : "", progress->text);
}

/* Cuts the line to what fits in one row, so that \r goes back to its beginning. Counts code points as one column each. */
static void cut_to_terminal(char *line) {
    struct winsize window = {0};
    size_t columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1 ? window.ws_col - 1u : 79;
    size_t length = strlen(line), at = 0;
    for (size_t column = 0; column < columns && at < length; column++) {
        uint32_t code_point;
        size_t used = limn_utf8_decode(line + at, length - at, &code_point);
        at += used ? used : 1;
    }
    line[at] = '\0';
}

static void draw(limn_progress *progress, double now) {
    char line[1024];
    format_line(progress, now, false, line, sizeof line);
    if (progress->terminal) {
        cut_to_terminal(line);
        fprintf(stderr, "\r\033[K%s", line);
        fflush(stderr);
    } else {
        fprintf(stderr, "%s: %s\n", limn_program_name(), line);
    }
    progress->drawn = now;
}

void limn_progress_hide(void) {
    if (live && live->terminal) fputs("\r\033[K", stderr);
}

void limn_progress_show(void) {
    if (live && live->terminal) draw(live, limn_seconds());
}

limn_progress *limn_progress_start(const char *what, const char *unit, uint64_t start, uint64_t total) {
    if (limn_get_log_level() > LIMN_LOG_INFO) return NULL;
    limn_progress *progress = limn_allocate(1, sizeof *progress, NULL);
    if (!progress) return NULL;
    snprintf(progress->what, sizeof progress->what, "%s", what);
    snprintf(progress->unit, sizeof progress->unit, "%s", unit);
    progress->start = progress->done = start;
    progress->total = total;
    progress->began = progress->drawn = limn_seconds();
    progress->terminal = isatty(STDERR_FILENO) == 1;
    progress->samples[0].time = progress->began;
    progress->samples[0].done = start;
    progress->sample_count = 1;
    pthread_mutex_lock(&limn_terminal_lock);
    live = progress;
    pthread_mutex_unlock(&limn_terminal_lock);
    return progress;
}

void limn_progress_update(limn_progress *progress, uint64_t done, const char *format, ...) {
    if (!progress) return;
    char text[sizeof progress->text] = "";
    if (format) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        limn_make_printable(text);
    }
    pthread_mutex_lock(&limn_terminal_lock);
    double now = limn_seconds();
    progress->done = done;
    memcpy(progress->text, text, sizeof text);
    if (now - progress->samples[(progress->sample_count - 1) % SAMPLES].time >= 0.5) {
        size_t slot = progress->sample_count++ % SAMPLES;
        progress->samples[slot].time = now;
        progress->samples[slot].done = done;
    }
    if (now - progress->drawn >= (progress->terminal ? REDRAW_INTERVAL : PLAIN_INTERVAL)) draw(progress, now);
    pthread_mutex_unlock(&limn_terminal_lock);
}

void limn_progress_set_total(limn_progress *progress, uint64_t total) {
    if (!progress) return;
    pthread_mutex_lock(&limn_terminal_lock);
    progress->total = total;
    pthread_mutex_unlock(&limn_terminal_lock);
}

void limn_progress_finish(limn_progress *progress) {
    if (!progress) return;
    char line[1024];
    format_line(progress, limn_seconds(), true, line, sizeof line);
    pthread_mutex_lock(&limn_terminal_lock);
    limn_progress_hide();
    fprintf(stderr, "%s: %s\n", limn_program_name(), line);
    if (live == progress) live = NULL;
    pthread_mutex_unlock(&limn_terminal_lock);
    free(progress);
}
