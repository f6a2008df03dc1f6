/* JSON and YAML configurations: what is read, what is refused, and in which words. */
#include "tests/scratch.h"

static json_t *load(const char *name, const char *text, limn_error *error) {
    memset(error, 0, sizeof *error);
    return limn_json_load(scratch_write(name, text, strlen(text)), error);
}

static void refuse(const char *name, const char *text, const char *part) {
    limn_error error;
    json_t *value = load(name, text, &error);
    if (value) fail_msg("%s was taken: %s", name, text);
    assert_contains(error.message, part);
    assert_contains(error.message, name);
}

static char *repeat(const char *part, size_t times, const char *end) {
    limn_buffer buffer = {0};
    for (size_t i = 0; i < times; i++) limn_buffer_append(&buffer, part, strlen(part), NULL);
    limn_buffer_append(&buffer, end, strlen(end), NULL);
    return buffer.data;
}

static void test_bad_json(void **state) {
    (void)state;
    refuse("a.json", "{\"a\": 1,\n \"b\" 2}", "line 2");
    refuse("b.json", "{\"a\": 1, \"a\": 2}", "duplicate");
    refuse("c.json", "", "line 1");
    refuse("d.json", "{\"a\": \"\xff\"}", "byte 0xff");
    refuse("e.json", "{\"a\": 99999999999999999999}", "big");
    char *deep = repeat("[", 100, ""), *shut = repeat("]", 100, "");
    char *both = repeat(deep, 1, shut);
    refuse("f.json", both, "64 levels");
    free(deep);
    free(shut);
    free(both);
    limn_error error = {0};
    assert_null(limn_json_load(scratch_path("none.json"), &error));
    assert_contains(error.message, "none.json: No such file");
}

static void test_good_json(void **state) {
    (void)state;
    limn_error error;
    json_t *value = load("good.json", "\xef\xbb\xbf{\"a\": {\"b\": [1, 2.5, null, \"x\"]}}", &error);
    assert_non_null(value);
    json_decref(value);
    char *open = repeat("[", 64, ""), *shut = repeat("]", 64, "");
    char *both = repeat(open, 1, shut);
    value = load("deep.json", both, &error);
    assert_non_null(value);
    json_decref(value);
    free(open);
    free(shut);
    free(both);
}

static void test_yaml_means_what_json_means(void **state) {
    (void)state;
    limn_error error;
    json_t *yaml =
        load("a.yaml",
             "model:\n  base_learning_rate: 4.5e-06\n  target: taming.models.vqgan.VQModel # a comment\n"
             "  params: &p\n    embed_dim: 256\n    double_z: False\n    attn: [ 16, -3, 0x10 ]\n    none: ~\n"
             "    empty:\n    text: '256'\n    also: !!str 12\n    date: 2020-01-01\n    version: 1.2.3\n    plus: +1e3\n"
             "  again: *p\n",
             &error);
    assert_string_equal(error.message, "");
    json_t *params =
        json_loads("{\"embed_dim\":256,\"double_z\":false,\"attn\":[16,-3,16],\"none\":null,\"empty\":null,"
                   "\"text\":\"256\",\"also\":\"12\",\"date\":\"2020-01-01\",\"version\":\"1.2.3\",\"plus\":1000.0}",
                   0, NULL);
    json_t *expected = json_pack("{s:{s:f, s:s, s:O, s:O}}", "model", "base_learning_rate", 4.5e-06, "target",
                                 "taming.models.vqgan.VQModel", "params", params, "again", params);
    assert_true(json_equal(yaml, expected));
    /* An alias is a copy: what is set in one place does not show in the other. */
    assert_int_equal(limn_json_set(yaml, "model.params.embed_dim=8", &error), 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json_object_get(yaml, "model"), "again"), "embed_dim")),
                     256);
    json_decref(yaml);
    json_decref(expected);
    json_decref(params);
}

static void test_bad_yaml(void **state) {
    (void)state;
    refuse("a.yaml", "a: 1\na: 2\n", "line 2: the same key");
    refuse("b.yaml", "a: [1, 2\n", "line");
    refuse("c.yml", "", "empty");
    refuse("d.yaml", "a: *unknown\n", "alias");
    refuse("e.yaml", "a: &x [*x]\n", "alias");
    refuse("f.yaml", "? [1]\n: 2\n", "key");
    refuse("g.yaml", "a: !!python/object:os.system x\n", "tags");
    refuse("h.yaml", "a: !!map {b: 1}\n", "tags");
    refuse("i.yaml", "a: .inf\n", "finite");
    refuse("j.yaml", "a: 1\n---\nb: 2\n", "more than one document");
    refuse("k.yaml", "<<: {a: 1}\n", "merge");
    refuse("l.yaml", "a: \xff\n", "line 1");
    char *deep = repeat("[", 100, "");
    refuse("m.yaml", deep, "nested");
    free(deep);
    refuse(
        "n.yaml",
        "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
        "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
        "g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
        "million");
    limn_error error = {0};
    refuse("o.yaml", "a: \"x\\0y\"\n", "line 1: a text holds a zero byte");
    refuse("p.yaml", "\"x\\0y\": a\n", "line 1: a key holds a zero byte");
    assert_null(limn_yaml_parse("a: x\0y", 6, "zero.yaml", &error));
    assert_contains(error.message, "zero.yaml");
}

static void test_look_ups(void **state) {
    (void)state;
    limn_error error = {0};
    json_t *object =
        json_loads("{\"n\": 12, \"m\": 1e3, \"neg\": -1, \"half\": 0.5, \"t\": true, \"s\": \"fp32\", \"null\": null, "
                   "\"list\": [1, 2, 3], \"mixed\": [1, \"x\"]}",
                   0, NULL);
    size_t size = 5, sizes[3] = {0}, count = 0;
    double real = 0.25;
    bool truth = false;
    const char *string = "default";
    assert_int_equal(limn_json_get_size(object, "c", "n", 1, 12, &size, &error), 0);
    assert_int_equal(size, 12);
    assert_int_equal(limn_json_get_size(object, "c", "m", 1, 2000, &size, &error), 0);
    assert_int_equal(size, 1000);
    assert_int_equal(limn_json_get_size(object, "c", "absent", 1, 2, &size, &error), 0);
    assert_int_equal(limn_json_get_size(object, "c", "null", 1, 2, &size, &error), 0);
    assert_int_equal(size, 1000);
    assert_int_equal(limn_json_get_float(object, "c", "n", 0, 100, &real, &error), 0);
    assert_true(real == 12);
    assert_int_equal(limn_json_get_bool(object, "c", "t", &truth, &error), 0);
    assert_true(truth);
    assert_int_equal(limn_json_get_string(object, "c", "s", "bf16|fp32", &string, &error), 0);
    assert_string_equal(string, "fp32");
    assert_int_equal(limn_json_get_sizes(object, "c", "list", 1, 3, sizes, 3, &count, &error), 0);
    assert_int_equal(count, 3);
    assert_int_equal(sizes[2], 3);
#define REFUSED(call, part)                                                                                                    \
    do {                                                                                                                       \
        memset(&error, 0, sizeof error);                                                                                       \
        assert_int_equal(call, -1);                                                                                            \
        assert_int_equal(error.exit_code, LIMN_EXIT_USAGE);                                                                    \
        assert_contains(error.message, part);                                                                                  \
    } while (0)
    REFUSED(limn_json_get_size(object, "c.json", "n", 13, 20, &size, &error),
            "c.json: n is 12 but must be a whole number from 13");
    REFUSED(limn_json_get_size(object, "c.json", "n", 1, 11, &size, &error), "to 11");
    REFUSED(limn_json_get_size(object, "c.json", "neg", 0, 11, &size, &error), "neg is -1");
    REFUSED(limn_json_get_size(object, "c.json", "half", 0, 11, &size, &error), "half is 0.5");
    REFUSED(limn_json_get_size(object, "c.json", "s", 0, 11, &size, &error), "s is \"fp32\"");
    REFUSED(limn_json_get_float(object, "c.json", "half", 0.6, 1, &real, &error),
            "half is 0.5 but must be a number from 0.6 to 1");
    REFUSED(limn_json_get_float(object, "c.json", "t", 0, 1, &real, &error), "t is true");
    REFUSED(limn_json_get_bool(object, "c.json", "n", &truth, &error), "true or false");
    REFUSED(limn_json_get_string(object, "c.json", "n", NULL, &string, &error), "must be a text");
    REFUSED(limn_json_get_string(object, "c.json", "s", "bf16|int8", &string, &error), "one of bf16|int8");
    REFUSED(limn_json_get_sizes(object, "c.json", "list", 1, 3, sizes, 2, &count, &error), "at most 2");
    REFUSED(limn_json_get_sizes(object, "c.json", "list", 1, 2, sizes, 3, &count, &error), "holds 3");
    REFUSED(limn_json_get_sizes(object, "c.json", "mixed", 1, 2, sizes, 3, &count, &error), "holds \"x\"");
    REFUSED(limn_json_get_sizes(object, "c.json", "n", 1, 2, sizes, 3, &count, &error), "must be a list");
    const char *known[] = {"n", "m", "neg", "half", "t", "s", "nil", "list", "mixed", NULL};
    REFUSED(limn_json_check_keys(object, "c.json", known, &error), "c.json: unknown key 'null'; did you mean 'nil'?");
    known[6] = "null";
    assert_int_equal(limn_json_check_keys(object, "c.json", known, &error), 0);
    json_t *array = json_array();
    REFUSED(limn_json_check_keys(array, "c.json", known, &error), "must be an object");
    json_decref(array);
    json_decref(object);
}

static void test_set(void **state) {
    (void)state;
    limn_error error = {0};
    json_t *object = json_loads("{\"train\": {\"batch\": 8}, \"name\": \"x\"}", 0, NULL);
    assert_int_equal(limn_json_set(object, "train.batch=16", &error), 0);
    assert_int_equal(limn_json_set(object, "train.schedule.warmup=1e-3", &error), 0);
    assert_int_equal(limn_json_set(object, "name=a word=b", &error), 0);
    assert_int_equal(limn_json_set(object, "list=[1,2]", &error), 0);
    json_t *expected = json_loads("{\"train\": {\"batch\": 16, \"schedule\": {\"warmup\": 0.001}}, \"name\": \"a word=b\", "
                                  "\"list\": [1, 2]}",
                                  0, NULL);
    assert_true(json_equal(object, expected));
    REFUSED(limn_json_set(object, "novalue", &error), "key=value");
    REFUSED(limn_json_set(object, "=3", &error), "key=value");
    REFUSED(limn_json_set(object, "train.=3", &error), "key=value");
    REFUSED(limn_json_set(object, "name.first=3", &error), "name is not a section");
    REFUSED(limn_json_set(object, "name=\xff", &error), "UTF-8");
    json_decref(object);
    json_decref(expected);
}

static void test_save(void **state) {
    (void)state;
    limn_error error = {0};
    json_t *value = json_loads("{\"b\": 1, \"a\": [true]}", 0, NULL);
    const char *path = scratch_path("saved.json");
    assert_int_equal(limn_json_save(value, path, &error), 0);
    char *text = limn_file_read(path, 1000, NULL, &error);
    assert_string_equal(text, "{\n  \"a\": [\n    true\n  ],\n  \"b\": 1\n}\n");
    free(text);
    scratch_limit_files(5);
    int result = limn_json_save(value, scratch_path("full.json"), &error);
    scratch_limit_files(RLIM_INFINITY);
    assert_int_equal(result, -1);
    assert_contains(error.message, "full.json");
    assert_false(limn_file_exists(scratch_path("full.json")));
    json_decref(value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_json), cmocka_unit_test(test_good_json), cmocka_unit_test(test_yaml_means_what_json_means),
        cmocka_unit_test(test_bad_yaml), cmocka_unit_test(test_look_ups),  cmocka_unit_test(test_set),
        cmocka_unit_test(test_save),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
