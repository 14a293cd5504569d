/* Asked for by bcc; nothing in it is needed. */
#ifndef XDROP_UAPI_LINUX_BPF_H
#define XDROP_UAPI_LINUX_BPF_H
#endif
