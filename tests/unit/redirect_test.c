/* SPDX-License-Identifier: BSD-2-Clause */
#include "routing/redirect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static void the_place_and_the_node_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *reply, *host;
        uint32_t slot;
        uint16_t port;
    } rows[] = {
        {"-MOVED 3999 127.0.0.1:6381\r\n", "127.0.0.1", 3999, 6381},
        {"-ASK 16383 node-3.example:65535\r\n", "node-3.example", 16383, 65535},
        {"-MOVED 0 ::1:7000\r\n", "::1", 0, 7000},
        {"-MOVED 12 fe80::1%eth0:7000\r\n", "fe80::1%eth0", 12, 7000},
        {"-MOVED 1 :7001\r\n", "", 1, 7001},
        {"-ASK 1 ?:7001\r\n", "", 1, 7001},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct redirect redirect;
        assert_true(redirect_read(slice_of(rows[i].reply), &redirect));
        assert_int_equal(redirect.slot, rows[i].slot);
        assert_int_equal(redirect.port, rows[i].port);
        assert_true(slice_equals(redirect.host, slice_of(rows[i].host)));
    }
}

static void what_is_no_redirect_is_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "-MOVED\r\n", "-MOVED \r\n", "-MOVED 1\r\n", "-MOVED 1 \r\n", "-MOVED 1 host\r\n", "-MOVED 1 host:\r\n",
        "-MOVED 16384 host:1\r\n", "-MOVED -1 host:1\r\n", "-MOVED 1 host:0\r\n", "-MOVED 1 host:65536\r\n",
        "-MOVED 99999999999999999999 host:1\r\n", "-MOVED 1 host:1x\r\n", "-MOVED x host:1\r\n", "-MOVED 1 host:1",
        "-TRYAGAIN 1 host:1\r\n", "+MOVED 1 host:1\r\n", "", "\r\n", "-",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct redirect redirect;
        char *copy = strdup(rows[i]); /* so that a byte beyond is noticed */
        assert_false(redirect_read((struct slice){copy, strlen(copy)}, &redirect));
        free(copy);
    }
}

static void the_words_of_a_cluster_that_is_down_are_kept(void **state)
{
    (void)state;
    static const struct {
        const char *reply, *told;
    } rows[] = {
        {"-CLUSTERDOWN Hash slot not served\r\n", NULL},
        {"-CLUSTERDOWN The cluster is down\r\n", NULL},
        {"-CLUSTERDOWN The cluster is down and only accepts read commands\r\n", NULL},
        {"-CLUSTERDOWN\r\n", "-CLUSTERDOWN Hash slot not served\r\n"},
        {"-CLUSTERDOWN The cluster is do", "-CLUSTERDOWN Hash slot not served\r\n"},
        {"-MOVED 1 host:1\r\n", "-CLUSTERDOWN Hash slot not served\r\n"},
        {"", "-CLUSTERDOWN Hash slot not served\r\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice told = redirect_down_text(redirect_down_of(slice_of(rows[i].reply)));
        assert_true(slice_equals(told, slice_of(rows[i].told ? rows[i].told : rows[i].reply)));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_place_and_the_node_are_read),
        cmocka_unit_test(what_is_no_redirect_is_refused),
        cmocka_unit_test(the_words_of_a_cluster_that_is_down_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
