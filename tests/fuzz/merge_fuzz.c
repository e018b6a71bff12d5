/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Replies of hostile nodes, one behind the other, merged by every policy: what comes of it must be one complete reply.
 * The same bytes as a reply to CLUSTER NODES (routing/scan.h).
 */
#include "routing/merge.h"

#include "routing/resp.h"
#include "routing/scan.h"

#include <stdio.h>
#include <stdlib.h>

enum { PIECES_MOST = 8 };

static void expect(bool is_right, const char *what)
{
    if (is_right) return;
    fprintf(stderr, "not so: %s\n", what);
    abort();
}

static uint32_t split(const uint8_t *data, size_t size, struct merge_piece *pieces, uint32_t *order)
{
    const char *bytes = (const char *)data;
    struct resp_reply state = {0};
    uint32_t count = 0;
    while (size > 0 && count < PIECES_MOST) {
        size_t used = size;
        if (resp_reply_scan(&state, bytes, size, &used) != RESP_DONE) break;
        order[count] = count;
        pieces[count] = (struct merge_piece){{bytes, used}, &order[count], 1};
        count++;
        bytes += used;
        size -= used;
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct merge_buffer buffer;
    struct merge_piece pieces[PIECES_MOST];
    uint32_t order[PIECES_MOST];
    uint64_t seed = 1, hash = 0;
    uint32_t count = split(data, size, pieces, order);
    for (int policy = 0; count > 0 && policy < MERGE_POLICY_COUNT; policy++) {
        if (!merge_replies((enum merge_policy)policy, pieces, count, policy % 2, &seed, &buffer)) continue;
        struct resp_reply state = {0};
        size_t used = 0;
        enum resp_status status = resp_reply_scan(&state, buffer.bytes, buffer.size, &used);
        expect(status == RESP_DONE && used == buffer.size, "what is merged is one reply");
    }
    scan_add(&hash, SLICE("node"), 1, (struct slice){(const char *)data, size});
    expect(scan_state(hash) > 0 && scan_state(hash) < SCAN_STATES, "a state fits into a cursor");
    return 0;
}
