/* A TFLite delegate for tests, by the C interface of external delegates (tensorflow/lite/core/c/common.h).

   The option "mode" says what it does: "nothing" takes no operator; "wrong" takes all of them and computes
   none; "crash" the same and ends the process when it is asked; "refuse" cannot be created; "fail" cannot be
   applied. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct Context Context;
typedef struct Delegate Delegate;

typedef struct {
  void *init, *release, *prepare, *invoke, *profile;
  int32_t builtin;
  const char *name;
  int32_t version;
  void *external, *async;
  uint64_t in_place;
} Registration;

struct Context {
  size_t tensors_size;
  int (*execution_plan)(Context *, void **);
  void *tensors, *own, *resize, *report, *add, *node;
  int (*replace)(Context *, Registration, const void *, Delegate *);
};

struct Delegate {
  void *data;
  int (*prepare)(Context *, Delegate *);
  void *from_buffer, *to_buffer, *free_buffer;
  int64_t flags;
  void *builder;
};

static int idle(void) { return 0; }
static int crash(void) { abort(); }

static int take(Context *context, Delegate *delegate, void *invoke) {
  void *plan = NULL;
  Registration kernel = {.invoke = invoke, .prepare = (void *)idle, .name = "TestDelegate", .version = 1};
  if (context->execution_plan(context, &plan) != 0) return 1;
  return context->replace(context, kernel, plan, delegate);
}

static int take_nothing(Context *context, Delegate *delegate) { return 0; }
static int take_wrongly(Context *context, Delegate *delegate) { return take(context, delegate, (void *)idle); }
static int take_and_crash(Context *context, Delegate *delegate) { return take(context, delegate, (void *)crash); }
static int fail(Context *context, Delegate *delegate) { return 1; }

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  const char *mode = "nothing";
  for (size_t at = 0; at < count; at++)
    if (strcmp(keys[at], "mode") == 0) mode = values[at];
  if (strcmp(mode, "refuse") == 0) {
    report("no such device is attached");
    return NULL;
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->flags = 1; /* dynamic shapes */
  delegate->prepare = strcmp(mode, "wrong") == 0   ? take_wrongly
                      : strcmp(mode, "crash") == 0 ? take_and_crash
                      : strcmp(mode, "fail") == 0  ? fail
                                                   : take_nothing;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
