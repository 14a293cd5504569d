/* Asked for by bcc; nothing in it is needed. */
#ifndef XDROP_LINUX_BPF_COMMON_H
#define XDROP_LINUX_BPF_COMMON_H
#endif
