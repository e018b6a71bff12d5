/* SPDX-License-Identifier: BSD-2-Clause */
#include "proxy/ini.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* What the events said, one a line: "2:[proxy]", "3:proxy.threads=4", "5!". */
struct record {
    char *text;
    size_t size;
    FILE *out;
};

static void on_section(void *user, int line, const char *section)
{
    fprintf(((struct record *)user)->out, "%d:[%s]\n", line, section);
}

static void on_entry(void *user, int line, const char *section, const char *name, const char *value)
{
    fprintf(((struct record *)user)->out, "%d:%s.%s=%s\n", line, section, name, value);
}

static void on_fault(void *user, int line, const char *what)
{
    fprintf(((struct record *)user)->out, "%d!%s\n", line, what);
}

/* The caller frees it. */
static char *record_of(const char *text, size_t size)
{
    static const struct ini_events events = {on_section, on_entry, on_fault};
    struct record record = {NULL, 0, NULL};
    record.out = open_memstream(&record.text, &record.size);
    ini_read(text, size, &events, &record);
    fclose(record.out);
    return record.text;
}

static void assert_record(const char *text, const char *expected)
{
    char *record = record_of(text, strlen(text));
    assert_string_equal(record, expected);
    free(record);
}

static void values_arrive_as_they_were_written(void **state)
{
    (void)state;
    static const struct {
        const char *line, *value;
    } cases[] = {
        {"k=v", "v"},
        {"k = v", "v"},
        {"k\t=\t v \t", "v"},
        {"k = v\r", "v"},
        {"k =", ""},
        {"k", NULL},
        {"k = a ; b # c", "a ; b # c"},
        {"k = ;x", ";x"},
        {"k = #x", "#x"},
        {"k = a=b=", "a=b="},
        {"k = a:b", "a:b"},
        {"k = [x]", "[x]"},
        {"k = @", "@"},
        {"k = \" a \"", " a "},
        {"k = \"\"", ""},
        {"k = \"a\"b\"", "a\"b"},
        {"k = \"\"a\"\"", "\"a\""},
        {"k = a\"", "a\""},
        {"k = 'a'", "'a'"},
        {"k = a\\n\\", "a\\n\\"},
        {"k = %s%n", "%s%n"},
        {"k = Schl\xc3\xbcssel \xf0\x9f\x94\x91", "Schl\xc3\xbcssel \xf0\x9f\x94\x91"},
        {"k = \"a", NULL},
        {"k = \"", NULL},
        {"k = \"a\" ; b", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256], expected[256];
        snprintf(text, sizeof text, "[s]\n%s\n", cases[i].line);
        snprintf(expected, sizeof expected, "1:[s]\n2:s.k=%s\n", cases[i].value ? cases[i].value : "");
        char *record = record_of(text, strlen(text));
        if (cases[i].value)
            assert_string_equal(record, expected);
        else
            assert_non_null(strstr(record, "\n2!"));
        free(record);
    }
}

static void lines_are_numbered_exactly(void **state)
{
    (void)state;
    assert_record("; one\n\n   # three\n[a]\n\r\nx=1\n[b]\n\n\ny=2", "4:[a]\n6:a.x=1\n7:[b]\n10:b.y=2\n");
    assert_record("", "");
    assert_record("\n\n", "");
    assert_record("\xef\xbb\xbf[a]\nx=1\n", "1:[a]\n2:a.x=1\n");
}

static void sections_of_one_name_and_repeated_keys_all_arrive(void **state)
{
    (void)state;
    assert_record("[a]\nx=1\nx=2\n[a]\nx=3\n", "1:[a]\n2:a.x=1\n3:a.x=2\n4:[a]\n5:a.x=3\n");
}

static void keys_before_any_section_have_an_empty_one(void **state)
{
    (void)state;
    assert_record("x=1\n", "1:.x=1\n");
}

static void broken_lines_are_faults_and_the_rest_is_read(void **state)
{
    (void)state;
    static const char *const broken[] = {
        "  y = 2",
        "\ty = 2",
        " continued",
        "nothing",
        "y: 2",
        "= 2",
        "y y = 2",
        "y;z = 2",
        "y\xc3\xa4 = 2",
        "[a",
        "[a] ; comment",
        "[]",
        "[ ]",
        "[a]]",
        "y = \xff\xfe",
        "y = \xc3",
        "y = \xc0\xaf",
        "y = \xed\xa0\x80",
        "\x80\x80",
        "y = \"2",
        "[aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeee]",
        "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg = 2",
    };
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char text[256];
        snprintf(text, sizeof text, "[s]\nx=1\n%s\n[t]\nz=3\n", broken[i]);
        char *record = record_of(text, strlen(text));
        const char *fault = strstr(record, "\n3!");
        assert_non_null(fault);
        assert_ptr_equal(strstr(record, "1:[s]\n2:s.x=1\n"), record);
        assert_non_null(strstr(record, "\n4:[t]\n5:t.z=3\n"));
        assert_null(strstr(record, "\n3:"));
        free(record);
    }
}

static void comments_may_be_of_any_bytes_but_nul(void **state)
{
    (void)state;
    assert_record("; \xff\xe4 latin\n[a]\n", "2:[a]\n");
}

static void keys_behind_a_broken_section_land_nowhere(void **state)
{
    (void)state;
    static const char text[] = "[a]\nx=1\n[b\nx=2\n[c]\nx=3\n";
    char *record = record_of(text, sizeof text - 1);
    assert_null(strstr(record, "x=2"));
    assert_non_null(strstr(record, "2:a.x=1\n3!"));
    assert_non_null(strstr(record, "5:[c]\n6:c.x=3\n"));
    free(record);
}

static void a_nul_byte_is_a_fault(void **state)
{
    (void)state;
    static const char text[] = "[a]\nx=1\0 2\ny=2\n;\0\nz=3";
    char *record = record_of(text, sizeof text - 1);
    assert_non_null(strstr(record, "2!"));
    assert_non_null(strstr(record, "3:a.y=2\n4!"));
    assert_non_null(strstr(record, "5:a.z=3\n"));
    free(record);
}

/* inih alone splits lines at 199 bytes and reads the rest as keys of their own. */
static void long_lines_are_whole_up_to_the_limit(void **state)
{
    (void)state;
    static const size_t sizes[] = {
        190, 196, 197, 198, 199, 200, 201, 400, 4096, INI_LINE_MAX, INI_LINE_MAX + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        char *text = malloc(size + 32), *expected = malloc(size + 64);
        assert_non_null(text);
        assert_non_null(expected);
        memcpy(text, "[a]\nx=", 6);
        memset(text + 6, ';', size - 2);
        memcpy(text + 6 + size - 2, "\ny=2\n", 6);
        snprintf(expected, size + 64, "1:[a]\n2:a.%.*s\n3:a.y=2\n", (int)size, text + 4);
        char *record = record_of(text, strlen(text));
        if (size <= INI_LINE_MAX) {
            assert_string_equal(record, expected);
        } else {
            assert_non_null(strstr(record, "2!is longer than 65536 bytes"));
            assert_non_null(strstr(record, "\n3:a.y=2\n"));
        }
        free(record);
        free(expected);
        free(text);
    }
}

static void names_are_whole_up_to_the_limit(void **state)
{
    (void)state;
    char text[256], expected[256], section[INI_SECTION_MAX + 1], name[INI_NAME_MAX + 1];
    memset(section, 's', INI_SECTION_MAX);
    memset(name, 'n', INI_NAME_MAX);
    section[INI_SECTION_MAX] = name[INI_NAME_MAX] = '\0';
    snprintf(text, sizeof text, "[%s]\n%s = v\n", section, name);
    snprintf(expected, sizeof expected, "1:[%s]\n2:%s.%s=v\n", section, section, name);
    assert_record(text, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_arrive_as_they_were_written),
        cmocka_unit_test(lines_are_numbered_exactly),
        cmocka_unit_test(sections_of_one_name_and_repeated_keys_all_arrive),
        cmocka_unit_test(keys_before_any_section_have_an_empty_one),
        cmocka_unit_test(broken_lines_are_faults_and_the_rest_is_read),
        cmocka_unit_test(comments_may_be_of_any_bytes_but_nul),
        cmocka_unit_test(keys_behind_a_broken_section_land_nowhere),
        cmocka_unit_test(a_nul_byte_is_a_fault),
        cmocka_unit_test(long_lines_are_whole_up_to_the_limit),
        cmocka_unit_test(names_are_whole_up_to_the_limit),
    };
    return cmocka_run_group_tests_name("proxy_ini", tests, NULL, NULL);
}
