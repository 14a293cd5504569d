#ifndef XDROP_LINUX_STDDEF_H
#define XDROP_LINUX_STDDEF_H
#define NULL ((void *)0)
#define offsetof(type, member) __builtin_offsetof(type, member)
#define __always_inline inline __attribute__((always_inline))
#endif
