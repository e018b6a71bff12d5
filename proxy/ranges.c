/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/ranges.h"

size_t ranges_cut(struct iovec *ranges, size_t count, size_t bytes)
{
    size_t used = 0;
    for (size_t left = bytes; left > 0 && used < count; used++) {
        if (ranges[used].iov_len > left)
            ranges[used].iov_len = left;
        left -= ranges[used].iov_len;
    }
    return used;
}
