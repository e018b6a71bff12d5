/* SPDX-License-Identifier: BSD-2-Clause */
/* Secrets from files of their own, so that they stand in no configuration, command line or environment. */
#include "proxy/config_loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECRET_MAX = 64 * 1024 }; /* bytes in a secret's file */

/* Terminal and devices are no place for a secret, and could keep us waiting. */
static bool is_file_or_pipe(int descriptor)
{
    struct stat status;
    return fstat(descriptor, &status) == 0 && (S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode));
}

/* The first line's end may be there or not; all else in the file is the secret. NULL if told what is wrong.
 */
static char *read_secret(const char *path, struct config_wrong *wrong)
{
    char quoted[CONFIG_PATH_SIZE];
    config_quote(path, quoted, sizeof quoted);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (descriptor < 0) {
        snprintf(wrong->text, sizeof wrong->text, "%s cannot be opened: %s", quoted, strerror(errno));
        return NULL;
    }
    size_t size = 0;
    bool is_file = is_file_or_pipe(descriptor);
    char *secret = is_file ? config_read_all(descriptor, SECRET_MAX, &size) : NULL;
    int error = errno;
    close(descriptor);

    if (!is_file)
        snprintf(wrong->text, sizeof wrong->text, "%s is not a file; name a file with the secret in it",
                 quoted);
    else if (!secret && error == EFBIG)
        snprintf(wrong->text, sizeof wrong->text, "%s has more than 65536 bytes; that is no secret", quoted);
    else if (!secret)
        snprintf(wrong->text, sizeof wrong->text, "%s cannot be read: %s", quoted, strerror(error));
    if (!secret) return NULL;

    if (size > 0 && secret[size - 1] == '\n') size--;
    secret[size] = '\0';
    if (size > 0 && strlen(secret) == size) return secret;
    snprintf(wrong->text, sizeof wrong->text, "%s %s", quoted,
             size == 0 ? "is empty; leave the key out if there is no secret"
                       : "has a NUL byte in it; a secret has none");
    explicit_bzero(secret, size);
    free(secret);
    return NULL;
}

bool config_set_from_file(const struct config_key *key, const char *path, void *field,
                          struct config_wrong *wrong)
{
    char *secret = read_secret(path, wrong);
    if (!secret) return false;
    bool is_good = key->type->set(key, secret, field, wrong);
    explicit_bzero(secret, strlen(secret));
    free(secret);
    return is_good;
}
