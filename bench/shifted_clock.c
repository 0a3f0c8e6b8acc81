/* The wall clock of a process, moved by the nanoseconds in a file that is mapped into it; preloaded by bench/shifted_clock.py.
 *
 * Timers, sleeps and the monotonic clocks stay real, so that timeouts and heartbeats are those of production. libfaketime 0.9.10
 * cannot be used: with DONT_FAKE_MONOTONIC its clock_nanosleep fails for absolute times, which Python's time.sleep waits for.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS 1000000000LL
#define LONGEST_UPTIME 1000000000LL /* seconds; a later deadline is one of the wall clock */

static const volatile int64_t unshifted = 0;
static const volatile int64_t *shift = &unshifted;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_cond_timedwait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor)) static void map_shift(void) {
    real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    /* dlsym would return the function of glibc 2.2.5, which knows another condition variable (glibc bug 14652). */
    real_cond_timedwait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlvsym(
        RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (real_cond_timedwait == NULL)
        real_cond_timedwait = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlsym(
            RTLD_NEXT, "pthread_cond_timedwait");
    const char *name = getenv("REPLYRATE_BENCH_CLOCK");
    int file = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED)
        shift = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *result) {
    if (real_clock_gettime == NULL)
        map_shift();
    int status = real_clock_gettime(clock, result);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t now = result->tv_sec * NANOSECONDS + result->tv_nsec + *shift;
        result->tv_sec = now / NANOSECONDS;
        result->tv_nsec = now % NANOSECONDS;
    }
    return status;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    result->tv_sec = now.tv_sec;
    result->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result != NULL)
        *result = now.tv_sec;
    return now.tv_sec;
}

/* A deadline of the wall clock, shown as the kernel's: RocksDB's timer computes it from the moved clock, and would never wait. */
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *deadline) {
    struct timespec real = *deadline;
    if (real_cond_timedwait == NULL)
        map_shift();
    if (real.tv_sec > LONGEST_UPTIME) {
        int64_t at = real.tv_sec * NANOSECONDS + real.tv_nsec - *shift;
        real.tv_sec = at / NANOSECONDS;
        real.tv_nsec = at % NANOSECONDS;
    }
    return real_cond_timedwait(condition, mutex, &real);
}
